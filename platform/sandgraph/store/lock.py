"""One process to a data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from sandgraph.errors import ConfigurationError

_NAME = "sandgraph.lock"


class FolderLock:
    """A lock on a data folder, held until `release` or the death of the process, whatever its cause.

    Args:
        data_dir: An existing folder.

    Raises:
        ConfigurationError: Somebody holds it, or the folder cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        try:
            self._descriptor = os.open(data_dir / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(f"data_dir: the folder {data_dir} cannot be written: {error.strerror}.") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise ConfigurationError(
                f"data_dir: the folder {data_dir} is in use by another Sandgraph process"
                f"{f' ({holder})' if holder else ''}. Stop it, or choose another data_dir."
            ) from None
        # For the message above alone: the lock is the kernel's, so a stale number does no harm. A full disk does none.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let go; the file stays, for removing it would race with the next who locks it."""
        os.close(self._descriptor)
