"""Hostile submissions made cheap: one registered function runs whatever the initial state says, several at a time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from missing import missing
from served import Json, Served

#: Runs the code that the state brings along; the code is gone from the state before it runs.
ATTACKER = """
def attack(state):
    code = state["code"]
    state.delete("code")
    exec(compile(code, "<attack>", "exec"), {"state": state, "__name__": "attack"})
"""

#: What most attacks get: little, so that they end soon.
SMALL: Json = {"memory_mb": 64, "timeout_s": 8, "pids": 24, "output_kb": 64}

#: Seconds after a deadline in which a container has to be gone.
GONE_WITHIN_S = 2.0

_END_S = 60.0


@dataclass(frozen=True, slots=True)
class Attack:
    """What one attempt does, and within which limits."""

    code: str
    limits: Mapping[str, object]

    @classmethod
    def of(cls, code: str, **limits: object) -> Attack:
        return cls(code, {**SMALL, **limits})


@dataclass(frozen=True, slots=True)
class Ending:
    """What the platform recorded of an attack."""

    run: Json
    attempt: Json
    data: Json
    logs: list[Json]

    @property
    def status(self) -> str:
        return str(self.attempt["status"])

    @property
    def wall_s(self) -> float:
        return float(self.attempt["usage"]["wall_s"])

    def lines(self) -> list[str]:
        return [str(record["message"]) for record in self.logs]


def launch(served: Served, attack: Attack) -> str:
    """Start an attack and return its run's id."""
    served.register(ATTACKER, "attack")
    graph_id = served.post("/graph/create", served.graph_of("attack", limits=dict(attack.limits)))["graph_id"]
    run = served.post("/graph/run_async", {"graph_id": graph_id, "initial_state": {"code": attack.code}})
    return str(run["run_id"])


def ending(served: Served, run_id: str) -> Ending:
    """Wait for a run's end and return what is recorded of its first node that had an attempt."""
    logs = [record for record in served.journal(run_id) if record["kind"] == "log"]
    run = served.get(f"/graph/status/{run_id}")
    assert run["status"] in {"completed", "failed", "cancelled"}, run
    attempts: list[Json] = next(node["attempts"] for node in run["node_runs"] if node["attempts"])
    data = served.get(f"/graph/state/{run_id}")["data"]
    # What it was told to do; an outcome of its own making may have left it there.
    data.pop("code", None)
    return Ending(run, attempts[-1], data, logs)


def attack(served: Served, code: str, **limits: object) -> Ending:
    """Carry out one attack to its end."""
    return ending(served, launch(served, Attack.of(code, **limits)))


def attacks(served: Served, cases: Mapping[str, Attack]) -> dict[str, Ending]:
    """Carry out attacks side by side, as many at a time as the platform has slots."""
    runs = {name: launch(served, case) for name, case in cases.items()}
    return {name: ending(served, run_id) for name, run_id in runs.items()}


def run_of(served: Served, code: str, name: str, state: Mapping[str, object] | None = None, **node: object) -> Ending:
    """Register a function and run it: for what is between the function and the platform."""
    served.register(code, name)
    graph_id = served.post("/graph/create", served.graph_of(name, **node))["graph_id"]
    run = served.post("/graph/run_async", {"graph_id": graph_id, "initial_state": dict(state or {})})
    return ending(served, str(run["run_id"]))


def runtime_of(served: Served) -> str:
    """Return the OCI runtime of a platform's sandboxes."""
    return str(served.get("/readyz")["sandboxes"]["runtime"])


def burial_s(served: Served) -> float:
    """Return how long the last container may take to go after many attacks at once.

    Of gVisor's, each process is several of the host's, which needs seconds to bury them.
    """
    return 2 * GONE_WITHIN_S if runtime_of(served) == "runc" else 10 * GONE_WITHIN_S


def needs_limits(served: Served) -> None:
    """Do without the test, but not in CI, where the engine has the runtime registered such that nothing limits it."""
    command = ["docker", "info", "--format", "{{json .Runtimes}}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    if "--ignore-cgroups" in (json.loads(said)[runtime_of(served)].get("runtimeArgs") or ()):
        missing("this engine's entry of the runtime says --ignore-cgroups: the bomb would outgrow the host")


def resident_mb(served: Served) -> float:
    """Return the control plane's resident memory."""
    return _memory(served, "VmRSS")


def peak_mb(served: Served) -> float:
    """Return the most that the control plane's resident memory has been."""
    return _memory(served, "VmHWM")


def _memory(served: Served, field: str) -> float:
    status = Path(f"/proc/{served.process.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field + ":"))


def idle_within(served: Served, seconds: float) -> bool:
    """Tell whether all sandboxes that were leased are gone within so many seconds."""
    until = time.monotonic() + seconds
    while True:
        sandboxes: dict[str, Any] = served.get("/readyz")["sandboxes"]
        # Those that wait in the pool, and those that are being started for it.
        if sandboxes["leased"] == 0 and len(served.containers()) <= sandboxes["wanted"]:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
