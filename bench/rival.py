"""LangGraph, to be measured beside: installed into an environment of its own, and run in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.engines import Workload
from bench.report import note

_HERE = Path(__file__).parent
_LOCK = _HERE / "requirements-langgraph.lock"
_HOME = _HERE.parent / "build" / "langgraph"
_INSTALL_S = 600
_KEYS = ("counter", *(f"k{number}" for number in range(20)))
_MOST_STEPS = 100

#: It would send what it traces to a service elsewhere.
_QUIET = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}


class Rival:
    """A LangGraph that runs workloads.

    Attributes:
        facts: Its versions and what its durability is set to.
        database: Its file.
    """

    def __init__(self, process: subprocess.Popen[str], database: Path, workloads: Sequence[Workload]) -> None:
        self._process = process
        self.database = database
        orders = {
            "database": str(database),
            "most_steps": _MOST_STEPS,
            "workloads": {each.name: _told(each) for each in workloads},
        }
        self.facts = self._ask(json.dumps(orders))

    def run(self, workload: Workload) -> float:
        """Run a workload once, and return its seconds.

        Raises:
            SystemExit: It did not come to what it should.
        """
        answer = self._ask(workload.name)
        if answer["counter"] != workload.counter:
            raise SystemExit(f"{workload.name} came to {answer}")
        return float(answer["seconds"])

    def _ask(self, line: str) -> Mapping[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError("it was started without pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("LangGraph's process ended")
        found: Mapping[str, Any] = json.loads(answer)
        return found


def installed() -> str | None:
    """Make LangGraph's environment ready; return its Python, or None where it cannot be installed."""
    python = _HOME / "bin" / "python"
    stamp = _HOME / "installed.lock"
    if stamp.is_file() and stamp.read_bytes() == _LOCK.read_bytes() and python.exists():
        return str(python)
    note(f"… installing LangGraph into {_HOME}, once")
    try:
        shutil.rmtree(_HOME, ignore_errors=True)
        venv.create(_HOME, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run(  # noqa: S603 - a program of ours
            [*install, "-r", str(_LOCK)], check=True, timeout=_INSTALL_S, capture_output=True, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        note(f"… LangGraph cannot be installed, so our figures stand alone: {said[-1] if said else error!r}")
        return None
    stamp.write_bytes(_LOCK.read_bytes())
    return str(python)


@contextmanager
def opened(python: str, folder: Path, workloads: Sequence[Workload]) -> Iterator[Rival]:
    """Start LangGraph over a database in a folder, for the length of the block."""
    # Isolated: what lies beside the script, and what is installed for us, is not for it.
    process = subprocess.Popen(  # noqa: S603 - a program of ours
        [python, "-I", str(_HERE / "beside.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        env={**os.environ, **_QUIET},
    )
    try:
        yield Rival(process, folder / "langgraph.db", workloads)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _told(workload: Workload) -> dict[str, object]:
    return {
        "functions": dict(workload.functions),
        "nodes": dict(workload.nodes),
        "edges": workload.edges,
        "first": workload.first,
        "last": workload.last,
        "keys": _KEYS,
    }
