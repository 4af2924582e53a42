"""The programs of a PostgreSQL server, which tests start for themselves; installed on Debian and Ubuntu, as root."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from scripts import debian
from scripts.console import quiet, say

TOPIC = "postgres"
PACKAGE = "postgresql"
OLDEST = 15

#: Where Debian puts the servers of each release.
FOLDER = Path("/usr/lib/postgresql")


def find(folder: Path = FOLDER) -> tuple[Path, int] | None:
    """The folder and the release of the newest server that is new enough."""
    on_path = shutil.which("initdb")
    folders = [*folder.glob("*/bin"), *([Path(on_path).parent] if on_path else [])]
    found = [(each, _release(each)) for each in folders if (each / "initdb").exists()]
    usable = [each for each in found if each[1] >= OLDEST]
    return max(usable, key=lambda each: each[1]) if usable else None


def ensure(folder: Path = FOLDER) -> bool:
    """See that there is one, and tell whether there is; what is there already stays as it is."""
    if find(folder) is None and debian.may_install():
        if not debian.available(PACKAGE):
            debian.update(TOPIC)
        debian.install(TOPIC, [PACKAGE])
    found = find(folder)
    if found is None:
        say(
            TOPIC,
            f"no server of PostgreSQL {OLDEST} or later is here, so its tests are left out. Install one, with initdb "
            f"and postgres on the PATH or under {FOLDER}; on Debian and Ubuntu: apt-get install {PACKAGE}",
        )
        return False
    say(TOPIC, f"PostgreSQL {found[1]} in {found[0]}, for servers of the tests' own")
    return True


def _release(folder: Path) -> int:
    said = quiet([str(folder / "postgres"), "--version"], timeout_s=10) or ""
    number = re.search(r"(\d+)", said)
    return int(number[1]) if number else 0
