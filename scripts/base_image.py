"""Makes a Python base image out of Debian's packages, for machines that reach no image registry.

`python3 -m scripts.base_image` imports it into the engine; with `--output FILE` it writes a tar archive, to be carried
to another machine and imported there with `docker import FILE sandgraph-base:trixie`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

from scripts import debian
from scripts.console import SetupError, quiet, say, work
from scripts.engine import Engine, ensure

TOPIC = "base image"
SUITE = debian.NEWER_SUITE
TAG = f"sandgraph-base:{SUITE}"
RECIPE_LABEL = "sandgraph.recipe"
PACKAGES = ["python3", "ca-certificates"]
LEFT_OUT = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/pixmaps/*",
]
BUILD_S = 600


def recipe() -> str:
    """Changes whenever what goes into the image does."""
    return hashlib.sha256(json.dumps([SUITE, PACKAGES, LEFT_OUT]).encode()).hexdigest()[:16]


def present(engine: Engine) -> bool:
    """Whether the engine has the image, made by today's recipe or, without a label, carried here from elsewhere."""
    label = f'{{{{index .Config.Labels "{RECIPE_LABEL}"}}}}'
    found = quiet(["docker", "image", "inspect", "--format", label, TAG], timeout_s=20, env=engine.env)
    return found in {recipe(), ""}


def make_tar(target: Path, mirror: str | None = None) -> None:
    """Write the image's file system as a tar archive."""
    if shutil.which("mmdebstrap") is None:
        if not debian.may_install():
            raise SetupError(
                "no image registry answers, and mmdebstrap is not here to make a base image from Debian's packages. "
                "On Debian: `sudo apt-get install mmdebstrap`, then again. Elsewhere: load an image with Python 3.11 "
                "or newer into the engine and name it in SANDGRAPH_BASE_IMAGE (docs/setup.md tells how)."
            )
        if not debian.available("mmdebstrap"):
            debian.update(TOPIC)
        debian.install(TOPIC, ["mmdebstrap"])
    source = f"deb [signed-by={debian.KEYRING}] {mirror or debian.mirror()} {SUITE} main"
    command = [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        "--format=tar",
        SUITE,
        str(target),
        source,
    ]
    work(TOPIC, f"making {TAG} from Debian's packages (about half a minute)", command, timeout_s=BUILD_S)


def make(engine: Engine, mirror: str | None = None) -> None:
    """Make the image and give it to the engine."""
    with tempfile.TemporaryDirectory(prefix="sandgraph-base-") as folder:
        tar = Path(folder) / "base.tar"
        make_tar(tar, mirror)
        changes = [f"LABEL {RECIPE_LABEL}={recipe()}", 'CMD ["python3"]']
        options = [part for change in changes for part in ("--change", change)]
        command = ["docker", "import", *options, str(tar), TAG]
        work(TOPIC, f"importing {TAG}", command, timeout_s=BUILD_S, env=engine.env)


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="python3 -m scripts.base_image", description=__doc__)
    parser.add_argument("--mirror", help="a Debian archive; by default the one in this system's apt sources")
    parser.add_argument("--output", type=Path, help="write a tar archive instead of importing into the engine")
    options = parser.parse_args()
    try:
        if options.output is None:
            make(ensure(), options.mirror)
        else:
            make_tar(options.output, options.mirror)
            say(TOPIC, f"wrote {options.output}")
    except SetupError as error:
        print(f"base image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
