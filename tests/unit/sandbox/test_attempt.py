"""One attempt over a scripted supervisor: every order of frames, and every way to end."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
from fake_engine import NOTHING, FakeContainer, FakeEngine, Peer, Script, an_outcome

from sandgraph.errors import EngineUnavailable, Unavailable
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, LogLine
from sandgraph.sandbox.attempt import ContainerSandbox
from sandgraph.sandbox.container import start_container
from sandgraph.sandbox.observed import ContainerUsage
from sandgraph.sandbox.spec import STOPPING, Broken, CheckProblem, Outcome, Succeeded
from sandgraph.sandbox.tasks import Tasks
from sandgraph_runner.protocol import VERSION, Check, Job, Kind, Reason, Report, Source, Used, encode

pytestmark = pytest.mark.anyio

Play = Callable[[Peer], Awaitable[None]]


class Stage:
    """Plays one attempt against a script; the script starts after HELLO and the request."""

    def __init__(self, play: Play, *, gvisor: bool = False) -> None:
        async def script(peer: Peer) -> None:
            await peer.hello()
            await peer.request()
            await play(peer)

        self.engine = FakeEngine(script)
        self.tasks = Tasks()
        self.lines: list[LogLine] = []
        self.gvisor = gvisor

    @property
    def killed(self) -> bool:
        return ("kill", "box") in self.engine.calls

    async def sandbox(self) -> ContainerSandbox:
        container = await start_container(self.engine, "box", {})
        self.container: FakeContainer = self.engine.containers["box"]
        return ContainerSandbox(self.engine, container, Limits(), self.tasks, gvisor=self.gvisor, start_s=0.25)

    async def execute(self, job: Job | None = None, timeout_s: float = 5) -> Outcome:
        sandbox = await self.sandbox()
        try:
            return await sandbox.execute(job or Job(), b"{}", timeout_s=timeout_s, on_log=self.keep)
        finally:
            await self.end()

    async def check(self, check: Check) -> Sequence[CheckProblem] | Broken:
        sandbox = await self.sandbox()
        try:
            return await sandbox.check(check, timeout_s=5)
        finally:
            await self.end()

    async def end(self) -> None:
        await self.tasks.join(5)
        # Not by `remove`: the attempt itself must have killed.
        self.container.die()
        self.container.ours.close()
        await self.engine.close()

    async def keep(self, lines: Sequence[LogLine]) -> None:
        self.lines.extend(lines)


def broken(outcome: Outcome | Sequence[CheckProblem]) -> Broken:
    assert isinstance(outcome, Broken), outcome
    assert outcome.failure.code == outcome.status.value
    return outcome


async def test_lines_heartbeats_and_then_the_result() -> None:
    async def play(peer: Peer) -> None:
        await peer.lines("one", "two")
        await peer.say(Kind.HEARTBEAT, Used(0.1, 5).to_meta())
        await peer.lines("three")
        await peer.result(
            an_outcome(ops=[{"op": "set", "key": "k", "value": [1]}]),
            used=Used(0.5, 7, 3),
            output_bytes=14,
        )
        await peer.hang()

    stage = Stage(play)
    outcome = await stage.execute()
    assert isinstance(outcome, Succeeded)
    assert outcome.diff.to_json() == [{"op": "set", "key": "k", "value": [1]}]
    assert [line.text for line in stage.lines] == ["one", "two", "three"]
    usage = outcome.usage
    assert (usage.cpu_s, usage.peak_memory_bytes, usage.pids_peak) == (0.5, 7, 3)
    assert (usage.output_bytes, usage.start_s) == (14, 0.25)
    assert 0 < usage.wall_s < 1
    assert not stage.killed


HELLO = encode(Kind.HELLO, {"version": VERSION, "python": "3"})
RESULT = encode(Kind.RESULT, Report().to_meta(), NOTHING)


async def say_hello_again(peer: Peer) -> None:
    await peer.hello()


async def speak_after_the_result(peer: Peer) -> None:
    await peer.stdout(RESULT * 2)


async def speak_like_the_host(peer: Peer) -> None:
    await peer.say(Kind.EXECUTE)


async def send_noise(peer: Peer) -> None:
    await peer.stdout(b"Traceback (most recent call last):\n")


async def send_a_huge_length(peer: Peer) -> None:
    await peer.stdout(struct.pack(">IB", 0xFFFFFFFF, Kind.RESULT))


async def print_too_much(peer: Peer) -> None:
    while True:
        await peer.lines("x" * 10_000)


async def print_endless_empty_lines(peer: Peer) -> None:
    while True:
        await peer.lines(*[""] * 1000)


async def send_a_result_that_is_none(peer: Peer) -> None:
    await peer.result(b"[]")


async def send_a_failure_without_a_reason(peer: Peer) -> None:
    await peer.say(Kind.FAILURE, Report().to_meta())


async def send_an_error_without_an_account(peer: Peer) -> None:
    await peer.say(Kind.FAILURE, Report(Reason.ERROR).to_meta(), b"oops")


async def send_a_result_with_a_reason(peer: Peer) -> None:
    await peer.result(NOTHING, reason=Reason.OOM)


async def log_no_list(peer: Peer) -> None:
    await peer.say(Kind.LOG, {"lines": 3})


@pytest.mark.parametrize(
    "play",
    [
        say_hello_again,
        speak_after_the_result,
        speak_like_the_host,
        send_noise,
        send_a_huge_length,
        print_too_much,
        print_endless_empty_lines,
        send_a_result_that_is_none,
        send_a_failure_without_a_reason,
        send_an_error_without_an_account,
        send_a_result_with_a_reason,
        log_no_list,
    ],
)
async def test_whoever_breaks_the_protocol_is_killed(play: Play) -> None:
    async def and_hang(peer: Peer) -> None:
        await play(peer)
        await peer.hang()

    stage = Stage(and_hang)
    outcome = broken(await stage.execute(Job(max_output_bytes=100_000)))
    assert outcome.status is AttemptStatus.RESULT_INVALID
    assert outcome.failure.message.startswith("Its result cannot be used: ")
    # A result that is merely wrong in form needs no kill: the lease's end removes the container at once.
    assert stage.killed or play is send_a_result_that_is_none
    assert sum(len(line.text) + 1 for line in stage.lines) <= 100_002


async def test_a_result_over_the_jobs_limit_is_invalid() -> None:
    async def play(peer: Peer) -> None:
        value = "x" * 3_000
        await peer.result(an_outcome(ops=[{"op": "set", "key": "k", "value": value}]))

    outcome = broken(await Stage(play).execute(Job(max_result_bytes=1000)))
    assert outcome.status is AttemptStatus.RESULT_INVALID


ACCOUNT = {"type": "ValueError", "message": "no", "traceback": "line 1", "condition": "state.x", "key": None}


@pytest.mark.parametrize(
    ("report", "body", "status", "said"),
    [
        (Report(Reason.ERROR), ACCOUNT, "error", "no"),
        (Report(Reason.NO_RESULT, exit_code=3), None, "no_result", "Its process ended with exit code 3 before"),
        (Report(Reason.KILLED, signal=11), None, "killed", "Signal 11 ended it before it returned a result."),
        (
            Report(Reason.OOM, used=Used(oom_kills=1)),
            None,
            "oom",
            "It used more than its 256 MiB of memory and was killed by",
        ),
        (
            Report(Reason.OUTPUT_LIMIT),
            None,
            "output_limit",
            "It printed more than the 1024 KiB or 65536 lines it may and was killed.",
        ),
        (Report(Reason.RESULT_INVALID, "too deep"), None, "result_invalid", "too deep"),
        (Report(Reason.RESULT_INVALID), {**ACCOUNT, "message": "not k", "key": "k"}, "result_invalid", "not k"),
    ],
)
async def test_what_the_supervisor_reports(report: Report, body: object, status: str, said: str) -> None:
    async def play(peer: Peer) -> None:
        await peer.say(Kind.FAILURE, report.to_meta(), b"" if body is None else json.dumps(body).encode())
        await peer.hang()

    outcome = broken(await Stage(play).execute())
    assert outcome.status.value == status
    assert outcome.failure.message.startswith(said)
    assert (outcome.usage.exit_code, outcome.usage.signal) == (report.exit_code, report.signal)
    if status == "error":
        failure = outcome.failure
        assert (failure.type, failure.traceback, failure.condition) == ("ValueError", "line 1", "state.x")


@pytest.mark.parametrize(("oom", "status"), [(True, AttemptStatus.OOM), (False, AttemptStatus.KILLED)])
async def test_a_sigkill_that_the_supervisor_cannot_explain_is_the_engines_to_explain(
    *, oom: bool, status: AttemptStatus
) -> None:
    stage: Stage

    async def play(peer: Peer) -> None:
        stage.container.state = type(stage.container.state)(is_running=True, was_oom_killed=oom, exit_code=0)
        await peer.say(Kind.FAILURE, Report(Reason.KILLED, signal=9).to_meta())
        await peer.hang()

    stage = Stage(play)
    assert broken(await stage.execute()).status is status


@pytest.mark.parametrize(
    ("exit_code", "oom", "gvisor", "status"),
    [
        (137, True, False, AttemptStatus.OOM),
        (1, False, False, AttemptStatus.NO_RESULT),
        # Nothing inside can send SIGKILL to PID 1 under runc; under gVisor it can.
        (137, False, False, AttemptStatus.LOST),
        (137, False, True, AttemptStatus.NO_RESULT),
        # The supervisor's own way out, once its owner is gone.
        (0, False, False, AttemptStatus.LOST),
    ],
)
async def test_a_sandbox_that_falls_silent(*, exit_code: int, oom: bool, gvisor: bool, status: AttemptStatus) -> None:
    stage: Stage

    async def play(peer: Peer) -> None:
        await peer.lines("last words")
        await peer.stderr(b"supervisor: oh no")
        stage.container.die(exit_code, oom=oom)

    stage = Stage(play, gvisor=gvisor)
    outcome = broken(await stage.execute())
    assert outcome.status is status
    assert [line.text for line in stage.lines] == ["last words"]
    if status is AttemptStatus.NO_RESULT:
        assert f"exit code {exit_code}" in outcome.failure.message
        assert "oh no" in outcome.failure.message


async def test_half_a_frame_and_then_nothing() -> None:
    stage: Stage

    async def play(peer: Peer) -> None:
        await peer.stdout(encode(Kind.RESULT, Report().to_meta(), b"{}")[:-1])
        stage.container.die(1)

    stage = Stage(play)
    assert broken(await stage.execute()).status is AttemptStatus.NO_RESULT


async def test_a_container_that_was_removed_is_lost() -> None:
    stage: Stage

    async def play(peer: Peer) -> None:
        stage.engine.containers.clear()
        peer.close()

    stage = Stage(play)
    assert broken(await stage.execute()).status is AttemptStatus.LOST


async def test_an_engine_that_does_not_answer_means_lost() -> None:
    stage: Stage

    async def play(peer: Peer) -> None:
        stage.engine.faults["inspect"].append(EngineUnavailable("restarting"))
        stage.container.theirs.close()
        await peer.hang()

    stage = Stage(play)
    assert broken(await stage.execute()).status is AttemptStatus.LOST


async def test_a_broken_connection_to_a_container_that_runs_on_is_lost_and_the_container_killed() -> None:
    async def play(peer: Peer) -> None:
        peer.close()
        await peer.hang()

    stage = Stage(play)
    assert broken(await stage.execute()).status is AttemptStatus.LOST
    assert stage.killed


async def test_at_the_deadline_it_is_killed_and_what_it_printed_is_kept() -> None:
    async def play(peer: Peer) -> None:
        await peer.lines("so far")
        await peer.hang()

    stage = Stage(play)
    outcome = broken(await stage.execute(timeout_s=0.2))
    assert outcome.status is AttemptStatus.TIMEOUT
    assert outcome.failure.message == "It did not finish within 0.2 s and was killed."
    assert stage.killed
    assert [line.text for line in stage.lines] == ["so far"]
    assert 0.2 <= outcome.usage.wall_s < 1
    assert outcome.usage.output_bytes == 7


async def test_an_engine_that_cannot_kill_does_not_hold_up_the_timeout() -> None:
    stage = Stage(Peer.hang)
    stage.engine.faults["kill"].append(EngineUnavailable("busy"))
    began = time.monotonic()
    assert broken(await stage.execute(timeout_s=0.1)).status is AttemptStatus.TIMEOUT
    assert time.monotonic() - began < 3


async def test_the_deadline_does_not_interrupt_the_log_handler() -> None:
    async def play(peer: Peer) -> None:
        await peer.lines("x")
        await peer.hang()

    stage = Stage(play)
    sandbox = await stage.sandbox()
    stored: list[LogLine] = []

    async def store_slowly(lines: Sequence[LogLine]) -> None:
        await asyncio.sleep(0.4)
        stored.extend(lines)

    outcome = await sandbox.execute(Job(), b"{}", timeout_s=0.1, on_log=store_slowly)
    await stage.end()
    assert broken(outcome).status is AttemptStatus.TIMEOUT
    assert len(stored) == 1


async def test_cancelling_kills_before_it_goes_on() -> None:
    stage = Stage(Peer.hang)
    sandbox = await stage.sandbox()
    task = asyncio.create_task(sandbox.execute(Job(), b"{}", timeout_s=60, on_log=stage.keep))
    await asyncio.sleep(0.05)
    assert not stage.killed
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ("kill", "box") in stage.engine.calls
    await stage.end()


async def test_a_job_that_nobody_reads_is_given_up_at_the_deadline() -> None:
    async def deaf(peer: Peer) -> None:
        await peer.hello()
        await peer.hang()

    stage = Stage(Peer.hang)
    stage.engine.script = deaf
    sandbox = await stage.sandbox()
    outcome = await sandbox.execute(Job(), b" " * 20_000_000, timeout_s=0.2, on_log=stage.keep)
    await stage.end()
    assert broken(outcome).status is AttemptStatus.TIMEOUT


async def test_a_check_and_its_problems() -> None:
    problem = {"index": 1, "code": "syntax_error", "message": "no", "line": 2, "column": None}

    async def play(peer: Peer) -> None:
        await peer.lines("printed at import")
        await peer.result(json.dumps({"problems": [problem]}).encode())
        await peer.hang()

    problems = await Stage(play).check(Check((Source("f", ""),), ("1",)))
    assert problems == [CheckProblem(1, "syntax_error", "no", 2, None)]


async def test_a_checks_problems_are_checked_too() -> None:
    async def play(peer: Peer) -> None:
        await peer.result(b'{"problems":[{"index":7}]}')
        await peer.hang()

    assert broken(await Stage(play).check(Check())).status is AttemptStatus.RESULT_INVALID


async def never_ready(peer: Peer) -> None:
    del peer


async def of_another_version(peer: Peer) -> None:
    await peer.say(Kind.HELLO, {"version": 99, "python": "3"})
    await peer.hang()


async def without_manners(peer: Peer) -> None:
    await peer.lines("hi")
    await peer.hang()


@pytest.mark.parametrize("script", [never_ready, of_another_version, without_manners])
async def test_a_supervisor_that_does_not_begin_well(script: Script) -> None:
    engine = FakeEngine(script)
    with pytest.raises(Unavailable):
        await start_container(engine, "box", {})
    assert engine.containers["box"].ours.fileno() == -1, "its socket is left open"
    engine.containers["box"].die()
    await engine.close()


@pytest.mark.parametrize("gvisor", [False, True])
async def test_of_one_that_is_killed_the_engine_knows_the_last(*, gvisor: bool) -> None:
    async def play(peer: Peer) -> None:
        await peer.say(Kind.HEARTBEAT, Used(0.1, 9 << 20, 4).to_meta())
        await peer.hang()

    stage = Stage(play, gvisor=gvisor)
    stage.engine.used = ContainerUsage(cpu_s=1.5, peak_memory_bytes=7 << 20, pids=2)
    usage = broken(await stage.execute(timeout_s=0.1)).usage
    # For gVisor the engine may count the whole machine.
    assert (usage.cpu_s, usage.peak_memory_bytes, usage.pids_peak) == (0.1 if gvisor else 1.5, 9 << 20, 4)
    assert stage.engine.calls.index(("usage", "box")) < stage.engine.calls.index(("kill", "box"))


async def test_a_cancelled_attempt_says_what_it_used() -> None:
    async def play(peer: Peer) -> None:
        await peer.say(Kind.HEARTBEAT, Used(0.1, 9, 4).to_meta())
        await peer.hang()

    stage = Stage(play)
    stage.engine.used = ContainerUsage(cpu_s=1.5, peak_memory_bytes=None, pids=None)
    sandbox = await stage.sandbox()
    running = asyncio.create_task(sandbox.execute(Job(), b"{}", timeout_s=5, on_log=stage.keep))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (sandbox.usage().cpu_s, sandbox.usage().peak_memory_bytes) == (1.5, 9)
    await stage.end()


async def test_who_speaks_before_it_is_asked_is_not_believed() -> None:
    stage = Stage(lambda _: asyncio.sleep(0))

    async def eager(peer: Peer) -> None:
        await peer.stdout(HELLO + RESULT)
        await peer.hang()

    stage.engine.script = eager
    outcome = broken(await stage.execute())
    assert outcome.status is AttemptStatus.RESULT_INVALID
    assert stage.killed


@pytest.mark.parametrize(("why", "kept"), [(STOPPING, ["one", "two", "three"]), (None, ["one"])])
async def test_where_the_platform_stops_what_was_printed_until_the_kill_is_handed_over(
    why: str | None, kept: list[str]
) -> None:
    stage: Stage
    stored, go_on = asyncio.Event(), asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.lines("one")
        await go_on.wait()
        # On its way when the attempt is ended: nobody listened to it yet.
        await peer.lines("two", "three")
        stored.set()
        await peer.hang()

    stage = Stage(play)
    sandbox = await stage.sandbox()
    task = asyncio.create_task(sandbox.execute(Job(), b"{}", timeout_s=5, on_log=stage.keep))
    while not stage.lines:  # noqa: ASYNC110 - the script tells nobody
        await asyncio.sleep(0.001)
    task.cancel(why)
    go_on.set()
    # The kill comes after what was printed.
    stage.engine.kill_gate = stored
    with pytest.raises(asyncio.CancelledError):
        await task
    await stage.end()
    assert [line.text for line in stage.lines] == kept
    assert stage.killed
