"""What comes first on a busy machine: the platform, before the work that it starts.

To start a sandbox keeps the engine and its helpers busy for a tenth of a second of a processor, and they are of the
same rank as the platform. Each answer takes several turns on a processor, and waited for each as long as all of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

#: Where Linux groups processes by session, niceness counts among those of one session, and this is the session's.
_OWN_SESSION = Path("/proc/self/autogroup")
_GROUPS = Path("/proc/sys/kernel/sched_autogroup_enabled")


@contextmanager
def precedence(niceness: int) -> Iterator[None]:
    """Give this process, as far as the system lets it, a niceness for the length of the block.

    To be entered before there are other threads: on Linux each has its own, and takes that of the one that starts it.

    Args:
        niceness: As of nice(1), from -20, before all others, to 19; 0 leaves everything as it is.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if not niceness or before == niceness:
        yield
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except OSError as error:
        about = {"action": "precedence", "niceness": before}
        logger.info("no precedence over other processes: %s", error.strerror, extra=about)
        yield
        return
    session = _session_niceness()
    if session is not None:
        _set_session(niceness)
    logger.info("precedence over other processes", extra={"action": "precedence", "niceness": niceness})
    try:
        yield
    finally:
        if session is not None:
            # Whatever else is in the session stays, such as the shell that started this. Another platform in it, or
            # one that was killed, may have been here before.
            _set_session(0 if session == niceness else session)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def _session_niceness() -> int | None:
    """Return the niceness of the session; None where sessions have none."""
    with suppress(OSError, ValueError):
        if _GROUPS.read_text().strip() == "1":
            return int(_OWN_SESSION.read_text().rpartition(" ")[2])
    return None


def _set_session(niceness: int) -> None:
    with suppress(OSError):
        _OWN_SESSION.write_text(str(niceness))
