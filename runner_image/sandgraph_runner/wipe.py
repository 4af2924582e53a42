"""Removes every file that an attempt may have left, where another attempt follows in the same sandbox."""

from __future__ import annotations

import os
import stat

#: Every place a sandbox can write to; a test looks at the mounts of a real one.
WRITABLE = ("/tmp", "/dev/shm")  # noqa: S108 - the sandbox's own mounts


def wipe(places: tuple[str, ...] = WRITABLE) -> None:
    """Empty these directories, whatever is in them; nothing runs meanwhile, and no link is followed.

    Works without recursion and without long paths: a nested directory is first moved up to its place.

    Raises:
        OSError: Something cannot be removed; the sandbox is then of no more use.
    """
    # Not to be foreseen: what has the name already would be in the way.
    token = os.urandom(8).hex()
    for place in places:
        moved = 0
        while names := os.listdir(place):  # noqa: PTH208 - no pathlib, for its imports
            for name in names:
                moved = _remove(f"{place}/{name}", f"{place}/{token}", moved)


def _remove(path: str, attic: str, moved: int) -> int:
    """Remove a file, or a directory once what it held has been moved up; return how many were moved so far."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)  # noqa: PTH108 - likewise
        return moved
    os.chmod(path, 0o700)  # noqa: PTH101 - likewise
    for name in os.listdir(path):  # noqa: PTH208 - likewise
        inner = f"{path}/{name}"
        if not stat.S_ISDIR(os.lstat(inner).st_mode):
            os.unlink(inner)  # noqa: PTH108 - likewise
            continue
        # Moving a directory needs the right to write to it.
        os.chmod(inner, 0o700)  # noqa: PTH101 - likewise
        os.rename(inner, f"{attic}.{moved}")  # noqa: PTH104 - likewise
        moved += 1
    os.rmdir(path)  # noqa: PTH106 - likewise
    return moved
