"""Drives the supervisor as a real process over pipes, as the host does through the engine."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandgraph_runner import protocol
from sandgraph_runner.protocol import Check, Decoder, Frame, Job, Kind, Report, Source

PACKAGE = Path(protocol.__file__).parent
DEADLINE_S = 20.0


@dataclass
class Ended:
    """Everything the supervisor said of one order."""

    kind: Kind
    report: Report
    body: bytes
    lines: list[list[Any]] = field(default_factory=list)
    heartbeats: int = 0

    @property
    def outcome(self) -> dict[str, Any]:
        assert self.kind is Kind.RESULT, (self.report, self.body.decode(), self.lines)
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def changes(self) -> dict[str, Any]:
        return {op["key"]: op["value"] for op in self.outcome["ops"] if op["op"] == "set"}

    @property
    def account(self) -> dict[str, Any]:
        assert self.kind is Kind.FAILURE, self.body
        read: dict[str, Any] = json.loads(self.body)
        return read

    def text(self, stream: str = "stdout") -> list[str]:
        return [line[2] for line in self.lines if line[0] == stream]


class Supervisor:
    """A supervisor in a process of its own, which the interpreter starts with these arguments."""

    def __init__(self, *arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", *(arguments or [str(PACKAGE)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=pass_fds,
        )
        self._decoder = Decoder(64 * 1024 * 1024)
        self._frames: list[Frame] = []

    def read(self, timeout_s: float = DEADLINE_S) -> Frame | None:
        """Return the next frame, or None at the end of the stream."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the supervisor says nothing"
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                assert self._decoder.is_between_frames
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def send(self, order: Job | Check, state: object = None) -> None:
        kind = Kind.EXECUTE if isinstance(order, Job) else Kind.CHECK
        body = b"" if isinstance(order, Check) else json.dumps({} if state is None else state).encode()
        self.write(protocol.encode(kind, order.to_meta(), body))

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        while data:
            data = data[self.process.stdin.write(data) :]

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def hello(self) -> dict[str, object]:
        frame = self.read()
        assert frame is not None
        assert frame.kind is Kind.HELLO
        return frame.read_meta()

    def first_line(self) -> str:
        """Wait for the first printed line."""
        while (frame := self.read()) is not None:
            if frame.kind is Kind.LOG:
                meta: dict[str, Any] = frame.read_meta()
                return str(meta["lines"][0][2])
        raise AssertionError("nothing was printed")

    def ended(self) -> Ended:
        """Read to the end of the stream, and check that the order of frames is the protocol's."""
        ended = self.reported()
        assert self.read() is None
        assert self.process.wait(5) == 0
        return ended

    def reported(self) -> Ended:
        """Read to the report."""
        lines: list[list[Any]] = []
        heartbeats = 0
        while (frame := self.read()) is not None:
            meta: dict[str, Any] = frame.read_meta()
            if frame.kind is Kind.LOG:
                lines += meta["lines"]
            elif frame.kind is Kind.HEARTBEAT:
                heartbeats += 1
            else:
                return Ended(frame.kind, Report.from_meta(meta), frame.body, lines, heartbeats)
        raise AssertionError(f"the supervisor ended without a report: {self.stderr()}")

    def stderr(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def source(body: str, name: str = "f") -> Source:
    """Return code as it stands, or the function of that name with these lines as its body."""
    code = textwrap.dedent(body).strip("\n")
    if f"def {name}(" not in code:
        code = f"def {name}(state):\n" + textwrap.indent(code, "    ")
    return Source(name, code + "\n")


def is_alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


def is_gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process ends within that time."""
    deadline = time.monotonic() + within_s
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
