"""One job in one container: sends it, listens, keeps the time, and says how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from sandgraph.errors import EngineUnavailable, SandgraphError
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, LogLine, Usage
from sandgraph.sandbox import verdict
from sandgraph.sandbox.container import Container
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.measured import Measured
from sandgraph.sandbox.payload import (
    read_answers,
    read_lines,
    read_problems,
    read_report,
    read_text,
    read_used,
    read_version,
)
from sandgraph.sandbox.spec import STOPPING, Broken, CheckProblem, OnLog, Outcome
from sandgraph.sandbox.tasks import Tasks, settled
from sandgraph_runner.protocol import (
    BYTES_A_LINE,
    VERSION,
    Check,
    Frame,
    Job,
    Kind,
    ProtocolError,
    Reason,
    Report,
    encode,
    encode_head,
    replace,
)

_log = logging.getLogger(__name__)

T = TypeVar("T")
B = TypeVar("B", Job, Check)

#: How a job ends after which the sandbox is as good as new, once wiped.
_IN_ORDER = frozenset({Reason.NONE, Reason.ERROR})
#: Seconds a kill waits for the engine to say what was used.
_LAST_LOOK_S = 0.3
#: Seconds between the deadline's kill and no longer waiting for what the sandbox still says.
_GRACE_S = 1.5
#: Seconds a cancellation waits for the engine to kill.
_KILL_S = 10.0
#: Outcomes up to this many characters are read on the event loop (a millisecond), larger ones on a thread.
_INLINE_CHARACTERS = 32 * 1024
#: Seconds that storing what was printed last may take where the platform stops.
_REST_S = 2.0
#: Seconds that killing and wiping what an attempt left may take; longer, and a new sandbox is the better one.
_WIPE_S = 5.0
_NOT_WIPED = "Its sandbox was not rid of the attempt before in time, and this one never began."
#: What a log frame, and a report around its body, may take.
_SLACK_BYTES = 2 * 1024 * 1024


class ContainerSandbox:
    """A leased container; implements `sandgraph.sandbox.spec.Sandbox`.

    Args:
        engine: Where the container is.
        container: A started one that nobody has used.
        limits: The limits that it has.
        tasks: Owns what goes on after a call has returned.
        gvisor: Whether its runtime is gVisor: submitted code can then send SIGKILL to PID 1, and the engine may count
            for it what the whole machine uses.
        start_s: Seconds its lease waited for it.
        is_first: Whether it has had no job before; else its supervisor has yet to say HELLO, once all is wiped.
        keep: Whether another job is to follow; then `is_reusable` tells whether it can.
    """

    def __init__(
        self,
        engine: Engine,
        container: Container,
        limits: Limits,
        tasks: Tasks,
        *,
        gvisor: bool = False,
        start_s: float = 0.0,
        is_first: bool = True,
        keep: bool = False,
    ) -> None:
        self._engine = engine
        self._container = container
        self._limits = limits
        self._tasks = tasks
        self._gvisor = gvisor
        self._measured = Measured(start_s=start_s, engine_knows=is_first and not gvisor)
        self._is_first = is_first
        self._keep = keep
        self._is_used = False
        self._has_reported = False
        self._is_reusable = False

    @property
    def sandbox_id(self) -> str:
        """The container's id."""
        return self._container.container_id

    @property
    def has_reported(self) -> bool:
        """Whether the supervisor said how its last job ended; it then ends by itself."""
        return self._has_reported

    @property
    def is_reusable(self) -> bool:
        """Whether the job ended in order, so that the supervisor wipes the sandbox and says HELLO again."""
        return self._is_reusable

    def usage(self) -> Usage:
        """Tell what was used so far."""
        return self._measured.usage()

    async def execute(self, job: Job, state: bytes, *, timeout_s: float, on_log: OnLog) -> Outcome:
        """Run one job; see `sandgraph.sandbox.spec.Sandbox.execute`.

        What ``on_log`` raises ends the attempt and is raised here; the deadline does not interrupt it.
        """
        if self._keep:
            job = replace(job, keep=True)
        request = [encode_head(Kind.EXECUTE, job.to_meta(), len(state)), state]
        # It may be large: once it is sent, and the caller lets go of it too, it is gone.
        del state
        ending = await self._converse(request, job, timeout_s, on_log)
        if isinstance(ending, Broken):
            return ending
        try:
            text = read_text(ending, job.max_result_bytes)
            del ending
            answers = await _read(read_answers, text, job)
        except ProtocolError as wrong:
            self._is_reusable = False
            return verdict.invalid(wrong, self.usage())
        return answers.succeeded(self.usage())

    async def check(self, check: Check, *, timeout_s: float) -> Sequence[CheckProblem] | Broken:
        """Check sources and expressions; what they print meanwhile is dropped."""
        ending = await self._converse([encode(Kind.CHECK, check.to_meta())], check, timeout_s, _drop)
        if isinstance(ending, Broken):
            return ending
        try:
            return await _read(read_problems, read_text(ending, check.max_result_bytes), check)
        except ProtocolError as wrong:
            return verdict.invalid(wrong, self.usage())

    async def _converse(
        self, request: list[bytes], bounds: Job | Check, timeout_s: float, on_log: OnLog
    ) -> Broken | bytes:
        """Send the request and listen to the end; on every way out but a result the container is being killed."""
        if self._is_used:
            raise RuntimeError("A sandbox is good for a single job.")
        self._is_used = True
        channel = self._container.channel
        deadline = _Deadline(timeout_s, self._kill, channel.shut_down)
        try:
            if not (self._is_first or await self._is_wiped(request)):
                await settled(self._kill(), _KILL_S)
                return verdict.broken(AttemptStatus.LOST, _NOT_WIPED, self.usage())
            self._measured.begin()
            with deadline:
                if self._is_first and not channel.is_between_frames:
                    raise ProtocolError("the sandbox spoke before it was asked")  # noqa: TRY301 - told like the others
                channel.expect(bounds.max_result_bytes + _SLACK_BYTES)
                ending = await self._listen(request, bounds, on_log)
            if not deadline.has_passed:
                return await self._conclude(ending, bounds)
        except ProtocolError as wrong:
            await settled(self._kill(), _KILL_S)
            # Unless it was the kill at the deadline that cut what was sent.
            if not deadline.has_passed:
                return verdict.invalid(wrong, self.usage())
        except asyncio.CancelledError as cancelled:
            await settled(self._kill(), _KILL_S)
            if STOPPING in cancelled.args:
                await self._hand_over_rest(on_log)
            raise
        except BaseException:
            await settled(self._kill(), _KILL_S)
            raise
        finally:
            self._measured.end()
        return verdict.timed_out(timeout_s, self.usage())

    async def _is_wiped(self, request: list[bytes]) -> bool:
        """Send the request to a sandbox that is being wiped, and tell whether it was ready for it in time."""
        began = time.monotonic()
        channel = self._container.channel
        try:
            async with asyncio.timeout(_WIPE_S):
                # Ahead of the HELLO: the supervisor reads it afterwards, and nobody else can.
                await channel.send(request)
                request.clear()
                hello = await channel.receive()
        except (TimeoutError, OSError):
            return False
        finally:
            self._measured.wait(time.monotonic() - began)
        return hello is not None and read_version(hello) == VERSION

    async def _conclude(self, ending: Frame | None, bounds: Job | Check) -> Broken | bytes:
        if ending is None:
            return await self._post_mortem()
        report = read_report(ending)
        self._measured.end(report)
        self._has_reported = not self._keep
        self._is_reusable = self._keep and report.reason in _IN_ORDER
        if ending.kind is Kind.RESULT:
            return ending.body
        if await self._was_oom(report):
            return verdict.out_of_memory(self._limits, self.usage())
        return verdict.reported(report, ending.body, self._limits, bounds.max_output_bytes, self.usage())

    async def _listen(self, request: list[bytes], bounds: Job | Check, on_log: OnLog) -> Frame | None:
        channel = self._container.channel
        # A byte may become a character but never two; each stream's last line may have no newline.
        printable = bounds.max_output_bytes + 2
        lines_left = max(bounds.max_output_bytes // BYTES_A_LINE, 1) + 2
        try:
            if request:
                await channel.send(request)
                request.clear()
        except OSError:
            return None
        while (frame := await channel.receive()) is not None:
            match frame.kind:
                case Kind.LOG:
                    lines = read_lines(frame)
                    self._measured.printed += sum(len(line.text) + 1 for line in lines)
                    lines_left -= len(lines)
                    if self._measured.printed > printable or lines_left < 0:
                        raise ProtocolError("more was printed than allowed")
                    await on_log(lines)
                case Kind.HEARTBEAT:
                    self._measured.note(read_used(frame))
                case Kind.RESULT | Kind.FAILURE:
                    # One that is kept goes on with the HELLO before its next order.
                    if not (self._keep or channel.is_between_frames):
                        raise ProtocolError("the sandbox went on after its result")
                    return frame
                case _:
                    raise ProtocolError(f"a {frame.kind.name} frame is out of order")
        return None

    async def _hand_over_rest(self, on_log: OnLog) -> None:
        """Hand over what was printed before the kill and lies in the connection still."""
        with suppress(TimeoutError, ProtocolError, SandgraphError):
            async with asyncio.timeout(_REST_S):
                while (frame := await self._container.channel.receive()) is not None:
                    if frame.kind is Kind.LOG:
                        await on_log(read_lines(frame))
                    elif frame.kind is not Kind.HEARTBEAT:
                        return

    async def _post_mortem(self) -> Broken:
        try:
            state = await self._engine.last_state(self._container.container_id)
        except EngineUnavailable:
            state = None
        self._kill()
        return verdict.post_mortem(
            state,
            can_kill_supervisor=self._gvisor,
            limits=self._limits,
            diagnostics=self._container.channel.diagnostics,
            usage=self.usage(),
        )

    async def _was_oom(self, report: Report) -> bool:
        """Settle what the supervisor could not: where it cannot read its cgroup, the engine knows who sent SIGKILL."""
        if report.reason is not Reason.KILLED or report.signal != verdict.SIGKILL or report.used.oom_kills:
            return False
        try:
            state = await self._engine.inspect(self._container.container_id)
        except EngineUnavailable:
            return False
        return state is not None and state.was_oom_killed

    def _kill(self) -> asyncio.Task[None]:
        return self._tasks.spawn(self._killed(), f"kill {self._container.name}")

    async def _killed(self) -> None:
        # With the container its counters go; yet nobody waits for them longer than this.
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LOOK_S):
                self._measured.note_engine(await self._engine.usage(self._container.container_id))
        try:
            await self._engine.kill(self._container.container_id)
        except EngineUnavailable as trouble:
            # The lease's end removes it, or the reaper; and without its owner it ends by itself.
            _log.warning(
                "The sandbox %s could not be killed. %s",
                self._container.name,
                trouble.message,
                extra={"action": "sandbox_not_killed", "sandbox": self._container.name},
            )


class _Deadline:
    """Counts the seconds of a block; when they are over, kills, and a little later stops waiting for what is left."""

    def __init__(self, seconds: float, kill: Callable[[], object], give_up: Callable[[], None]) -> None:
        self._seconds = seconds
        self._kill = kill
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        self.has_passed = False

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._pass)

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        self.has_passed = True
        self._kill()
        self._timer = asyncio.get_running_loop().call_later(_GRACE_S, self._give_up)


async def _read(reader: Callable[[str, B], T], text: str, asked: B) -> T:
    if len(text) <= _INLINE_CHARACTERS:
        return reader(text, asked)
    return await asyncio.to_thread(reader, text, asked)


async def _drop(_lines: Sequence[LogLine]) -> None:
    """Forget lines that nobody asked for."""
