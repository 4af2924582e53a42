"""What setup says while it works, and how it runs the tools it needs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TAIL_LINES = 30
TICK_S = 10.0


class SetupError(Exception):
    """Setup cannot go on; the message says what to do about it."""


def say(topic: str, text: str) -> None:
    """Print one line about one step."""
    print(f"{topic:<12} {text}", flush=True)


def quiet(command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> str | None:
    """Return the command's output, or None where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=None if env is None else {**os.environ, **env},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def work(
    topic: str,
    text: str,
    command: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> float:
    """Run a command that takes a while: one line now, a sign of life every ten seconds, its output only if it fails.

    Returns the seconds it took.
    """
    say(topic, text)
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
        )
    except OSError as error:
        raise SetupError(f"cannot start {command[0]}: {error}") from error
    lines: list[str] = []
    with process:
        reader = threading.Thread(target=_collect, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            code = _wait(process, topic, lines, started, timeout_s)
        except BaseException:
            process.kill()
            raise
        finally:
            reader.join(timeout=5)
    if code != 0:
        tail = "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
        raise SetupError(f"`{' '.join(command)}` failed with status {code}:\n{tail}")
    return time.monotonic() - started


def _collect(stream: IO[str] | None, lines: list[str]) -> None:
    if stream is None:
        return
    lines.extend(line.rstrip() for line in stream if line.strip())


def _wait(process: subprocess.Popen[str], topic: str, lines: list[str], started: float, timeout_s: float) -> int:
    while True:
        try:
            return process.wait(timeout=TICK_S)
        except subprocess.TimeoutExpired:
            spent = time.monotonic() - started
            if spent > timeout_s:
                raise SetupError(f"gave up after {spent:.0f} s; last line: {lines[-1] if lines else '-'}") from None
            say(topic, f"  … {spent:.0f} s  {lines[-1].strip()[:90] if lines else ''}")


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Keep out every other setup that asks for the same file."""
    with file.open("rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting", "another setup is at work here")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
