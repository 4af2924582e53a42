"""One process to a data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from sandgraph.errors import ConfigurationError

NAME = "sandgraph.lock"


class FolderLock:
    """A lock on a data folder, held until `release` or the death of the process, whatever its cause.

    Args:
        data_dir: An existing folder.

    Attributes:
        is_held: Whether it is ours; if not, another process has it.

    Raises:
        ConfigurationError: The folder cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME
        try:
            self._descriptor = self._open(self._path)
        except OSError as error:
            raise ConfigurationError(f"data_dir: the folder {data_dir} cannot be written: {error.strerror}.") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.is_held = True
            self._sign()
        except OSError:
            self.is_held = False

    @property
    def refusal(self) -> ConfigurationError:
        """The error that says that another process has it."""
        holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
        return ConfigurationError(
            f"data_dir: the folder {self._path.parent} is in use by another Sandgraph process"
            f"{f' ({holder})' if holder else ''}. Stop it, or choose another data_dir."
        )

    def is_current(self) -> bool:
        """Tell whether the lock that is held is the folder's still: nobody replaced it."""
        try:
            return self.is_held and os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def replace(self) -> None:
        """Take the folder from a process that holds its lock and does nothing.

        The other goes on holding a lock, on a file that is the folder's no more.

        Raises:
            OSError: The folder cannot be written.
        """
        path = self._path.with_name(f"{NAME}.{os.getpid()}")
        descriptor = self._open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # In one step, so that there is no moment in which the folder has no lock, or one that nobody holds.
            path.rename(self._path)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(self._descriptor)
        self._descriptor, self.is_held = descriptor, True
        self._sign()

    def release(self) -> None:
        """Let go; the file stays, for removing it would race with the next who locks it."""
        os.close(self._descriptor)

    def _open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def _sign(self) -> None:
        # For the refusal alone: the lock is the kernel's, so a stale number does no harm. A full disk does none.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)


def holder(data_dir: Path) -> str | None:
    """Return the id of the process that holds a folder's lock, or ``?`` where it did not say; None if nobody does."""
    try:
        descriptor = os.open(data_dir / NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        # Shared, and for no longer than this: whoever starts at this very moment would be refused.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "?"
    finally:
        os.close(descriptor)
    return None
