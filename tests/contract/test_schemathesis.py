"""schemathesis asks a running platform for all that its own description says, and for what it says it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzed import fuzzed

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"

#: Requests made up for each operation and phase. More with SANDGRAPH_FUZZ_EXAMPLES=100.
EXAMPLES = os.environ.get("SANDGRAPH_FUZZ_EXAMPLES", "4")

#: Each with a reason: what would end the test itself, and is asked for in the other one.
LEFT_OUT = {
    "open": [("POST", "/keys")],  # from the first key on, nobody is let in without one
    "keys": [("DELETE", "/keys/{key_id}")],  # it would revoke the very key that it comes with
}


def fuzz(url: str, folder: Path, name: str, *arguments: str) -> None:
    left_out = [f"--exclude-name={method} {path}" for method, path in LEFT_OUT[name]]
    command = [
        str(Path(sys.executable).with_name("st")),
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"{url}/openapi.json",
        f"--max-examples={EXAMPLES}",
        "--workers=2",
        "--no-color",
        *left_out,
        *arguments,
    ]
    more = {
        "SCHEMATHESIS_HOOKS": "fuzz_checks",
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **more}, capture_output=True, text=True, check=False, timeout=580
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Tested:" in done.stdout


def test_an_open_platform_keeps_its_word(tmp_path: Path) -> None:
    with fuzzed(tmp_path / "data", keys=False) as (url, _):
        # There is nobody to be let in.
        fuzz(url, tmp_path, "open", "--exclude-checks=ignored_auth", "--phases=examples,fuzzing")


def test_a_platform_with_keys_keeps_its_word(tmp_path: Path) -> None:
    with fuzzed(tmp_path / "data", keys=True) as (url, key):
        fuzz(url, tmp_path, "keys", f"--header=Authorization: Bearer {key}", "--phases=examples,coverage,fuzzing")
