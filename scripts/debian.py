"""Packages on Debian and Ubuntu: whether they may be installed here, from where, and some from the next release."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.console import SetupError, quiet, work

# Debian 12's own engine is 20.10, without compose v2 and buildx. The next release's run on its C library; its runc and
# containerd are kept out, since 1.1.15 fails on hosts with hybrid cgroups.
NEWER_SUITE = "trixie"
NEWER_FOR = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT_TIMEOUT_S = 600
# Another apt may be at work, on a machine that has just started for example.
APT = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
APT_ENV = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}


@dataclass(frozen=True)
class Release:
    """What /etc/os-release says."""

    name: str
    family: frozenset[str]
    codename: str


def release(path: Path = Path("/etc/os-release")) -> Release:
    """Read the distribution; an unknown one has an empty family."""
    fields: dict[str, str] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, found, value = line.partition("=")
            if found:
                fields[key] = value.strip().strip('"')
    family = frozenset([fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]) - {""}
    return Release(fields.get("PRETTY_NAME", "this system"), family, fields.get("VERSION_CODENAME", ""))


def may_install() -> bool:
    """Whether this is Debian or one of its family, and we are root."""
    return "debian" in release().family and os.geteuid() == 0 and shutil.which("apt-get") is not None


def mirror(sources: Path = Path("/etc/apt")) -> str:
    """The Debian archive this system installs from, as its own apt sources name it."""
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file() or file.suffix not in {".list", ".sources"}:
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        for address, suites in _stanzas(text) if file.suffix == ".sources" else _lines(text):
            # A security or third-party archive has other suites than the plain code name.
            if release().codename in suites:
                return address
    raise SetupError("no Debian mirror found in this system's apt sources")


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    for found in re.finditer(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", text, re.MULTILINE):
        yield found.group(1), [found.group(2)]


def _stanzas(text: str) -> Iterator[tuple[str, list[str]]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            key.strip().lower(): value.strip()
            for key, found, value in (line.partition(":") for line in stanza.splitlines() if not line.startswith("#"))
            if found
        }
        if "deb" in fields.get("types", "").split() and fields.get("uris") and fields.get("enabled", "yes") != "no":
            yield fields["uris"].split()[0], fields.get("suites", "").split()


def installed(package: str) -> bool:
    """Whether dpkg has the package."""
    status = quiet(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], timeout_s=10)
    return status == "installed"


def available(package: str) -> bool:
    """Whether apt could install the package from the system's own sources."""
    policy = quiet(["apt-cache", "policy", package], timeout_s=30) or ""
    candidate = re.search(r"Candidate:\s*(\S+)", policy)
    return candidate is not None and candidate.group(1) != "(none)"


def update(topic: str, options: Sequence[str] = ()) -> None:
    """Refresh the package lists: the system's own, or those the options name."""
    work(topic, "refreshing the package lists", [*APT, *options, "update"], timeout_s=APT_TIMEOUT_S, env=APT_ENV)


def install(topic: str, packages: Sequence[str], options: Sequence[str] = ()) -> None:
    """Install packages, without what they merely recommend."""
    command = [*APT, *options, "-y", "--no-install-recommends", "install", *packages]
    work(topic, f"installing {' '.join(packages)}", command, timeout_s=APT_TIMEOUT_S, env=APT_ENV)


@contextmanager
def newer_sources(packages: Sequence[str]) -> Iterator[list[str]]:
    """Apt options under which these packages, and only these, come from the next release.

    The system's own sources, lists and preferences stay as they are: all of it lives in a folder that goes again.
    """
    with tempfile.TemporaryDirectory(prefix="sandgraph-apt-") as folder:
        top = Path(folder)
        # apt drops to its own user for downloads.
        top.chmod(0o755)
        parts = top / "sources.list.d"
        shutil.copytree("/etc/apt/sources.list.d", parts) if Path("/etc/apt/sources.list.d").is_dir() else parts.mkdir()
        (parts / "sandgraph-newer.list").write_text(
            f"deb [signed-by={KEYRING}] {mirror()} {NEWER_SUITE} main\n", encoding="utf-8"
        )
        preferences = top / "preferences"
        preferences.write_text(
            f"Package: *\nPin: release n={NEWER_SUITE}\nPin-Priority: 50\n\n"
            f"Package: {' '.join(packages)}\nPin: release n={NEWER_SUITE}\nPin-Priority: 990\n",
            encoding="utf-8",
        )
        (top / "lists" / "partial").mkdir(parents=True)
        settings = {
            "Dir::Etc::sourceparts": parts,
            "Dir::Etc::preferences": preferences,
            "Dir::State::lists": top / "lists",
            # A cache of its own, or the system's would be left describing lists that are gone.
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
        }
        yield [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
