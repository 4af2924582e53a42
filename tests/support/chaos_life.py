"""One life of a platform with faults in it: composed as always, with a client that hands in programs and waits."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sqlite3
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import chaos_wrappers
from chaos_client import Client
from chaos_faults import Fault, Faults, Locker, Notes
from chaos_points import Action
from chaos_programs import Case, case_of

from sandgraph.bootstrap import open_platform
from sandgraph.errors import ConfigurationError, Conflict, Unavailable
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings

Json = dict[str, Any]

DATABASE = "sandgraph.db"

#: How a life that was not killed ends, as its process's exit code.
DONE, CRASHED, NOT_STARTED, STOPPED, STUCK, LOST = 0, 1, 3, 5, 6, 7


@dataclass(frozen=True)
class Life:
    """What a life is to do.

    Attributes:
        data_dir: Its data folder; the same for all lives of a batch.
        notes: File that it adds to.
        log: File that it says the rest in.
        deployment: Of its containers.
        programs: Seeds of those that it hands in, unless they were accepted before.
        accepted: The runs of those that were.
        faults: In it.
        docker: Whether sandboxes are containers.
        deadline_s: It is killed with SIGALRM after so long.
        slow_s: Most seconds a function sleeps.
        fails: Part of the calls that fail.
        node: What each node with a function has besides.
        settings: Of the platform.
        calm: Whether the client neither cancels nor pauses.
    """

    data_dir: Path
    notes: Path
    log: Path
    deployment: str
    programs: list[int]
    accepted: dict[int, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    docker: bool = False
    deadline_s: int = 60
    slow_s: float = 0.005
    fails: float = 0.1
    node: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    calm: bool = False

    def cases(self) -> list[Case]:
        """Return what it hands in, in this life or in one before."""
        return [case_of(seed, calm=self.calm) for seed in self.programs]

    def to_json(self) -> Json:
        paths = {name: str(getattr(self, name)) for name in ("data_dir", "notes", "log")}
        return asdict(self) | paths | {"accepted": list(self.accepted.items())}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Life:
        fields = dict(document)
        fields |= {name: Path(fields[name]) for name in ("data_dir", "notes", "log")}
        fields["accepted"] = dict(fields["accepted"])
        fields["faults"] = [Fault(each["point"], each["passage"], Action(each["action"])) for each in fields["faults"]]
        return cls(**fields)


def live(life: Life) -> int:
    """Live it in this process, which has no threads yet and is good for nothing afterwards; return how it ended."""
    signal.alarm(life.deadline_s)
    random.seed()
    with life.log.open("a", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    logging.basicConfig(level=logging.WARNING, force=True)
    notes = Notes(life.notes)
    needs_locker = any(fault.action is Action.LOCKED for fault in life.faults)
    locker = Locker(life.data_dir / DATABASE) if needs_locker else None
    stopping = threading.Event()
    faults = Faults(life.faults, notes, locker, stopping.set)
    chaos_wrappers.wrap(faults, docker=life.docker)
    try:
        ended = asyncio.run(_live(life, notes, stopping))
    except (Unavailable, ConfigurationError, sqlite3.OperationalError):
        traceback.print_exc()
        ended = NOT_STARTED
    except BaseException as error:  # noqa: BLE001 - the exit code tells
        traceback.print_exc()
        # It may be told before it has started.
        ended = LOST if isinstance(error, Conflict) and error.code == "lease_lost" else CRASHED
    faults.end()
    return ended


async def _live(life: Life, notes: Notes, stopping: threading.Event) -> int:
    options = {"max_recoveries": 10_000, "max_active_runs": 8, "pool_min": 2, "log_level": "warning"} | life.settings
    # Past the bounds of it.
    lease = {"lease_s": options.pop("lease_s")} if "lease_s" in options else {}
    settings = load_settings(data_dir=life.data_dir, deployment=life.deployment, **options).model_copy(update=lease)
    async with open_platform(settings, sandboxes=None if life.docker else InProcessSandboxes()) as platform:
        notes.add(opened=True)
        client = asyncio.create_task(Client(platform, life, notes).work())
        while not (client.done() or stopping.is_set() or platform.heart.lost.is_set()):
            await asyncio.wait([client], timeout=0.01)
        if platform.heart.lost.is_set():
            # As `sandgraph serve` does.
            client.cancel()
            await asyncio.wait([client])
            return LOST
        if client.done():
            return DONE if client.result() else STUCK
        client.cancel()
        await asyncio.wait([client])
    return STOPPED
