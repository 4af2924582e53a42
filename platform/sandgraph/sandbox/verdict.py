"""How an attempt without a result ended: a status and a sentence, from the engine's facts and the supervisor's."""

from __future__ import annotations

from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, Failure, Usage
from sandgraph.sandbox.observed import ContainerState
from sandgraph.sandbox.payload import Account, read_account
from sandgraph.sandbox.spec import Broken
from sandgraph_runner.protocol import BYTES_A_LINE, Reason, Report

SIGKILL = 9

#: The supervisor exits with this once it has reported; where no report came, it had nobody left to report to.
_ORPHANED = 0
_KILLED = 128 + SIGKILL


def broken(status: AttemptStatus, message: str, usage: Usage) -> Broken:
    """Make the outcome of an attempt that submitted code did not end by raising."""
    return Broken(status, Failure(status.value, message), usage)


def timed_out(timeout_s: float, usage: Usage) -> Broken:
    """Tell of an attempt that the host killed at its deadline."""
    return broken(AttemptStatus.TIMEOUT, f"It did not finish within {timeout_s:g} s and was killed.", usage)


def invalid(reason: object, usage: Usage) -> Broken:
    """Tell of a sandbox that broke the protocol."""
    return broken(AttemptStatus.RESULT_INVALID, f"Its result cannot be used: {reason}.", usage)


def out_of_memory(limits: Limits, usage: Usage) -> Broken:
    """Tell of an attempt that the kernel killed for memory."""
    return broken(
        AttemptStatus.OOM,
        f"It used more than its {limits.memory_mb} MiB of memory and was killed by the kernel.",
        usage,
    )


def reported(report: Report, body: bytes, limits: Limits, max_output_bytes: int, usage: Usage) -> Broken:
    """Tell what the supervisor reported in a FAILURE.

    Raises:
        ProtocolError: The account that goes with an error is none.
    """
    match report.reason:
        case Reason.ERROR:
            account = read_account(body)
            failure = Failure(
                AttemptStatus.ERROR.value,
                account.message or f"{account.type} was raised.",
                type=account.type,
                traceback=account.traceback,
                condition=account.condition,
            )
            return Broken(AttemptStatus.ERROR, failure, usage)
        case Reason.OOM:
            return out_of_memory(limits, usage)
        case Reason.KILLED:
            return broken(AttemptStatus.KILLED, f"Signal {report.signal} ended it before it returned a result.", usage)
        case Reason.OUTPUT_LIMIT:
            lines = max_output_bytes // BYTES_A_LINE
            message = (
                f"It printed more than the {max_output_bytes / 1024:g} KiB or {lines} lines it may and was killed."
            )
            return broken(AttemptStatus.OUTPUT_LIMIT, message, usage)
        case Reason.RESULT_INVALID:
            # Where it is one value that cannot be stored, the child's account names it.
            account = read_account(body) if body else Account("", report.message, None, None)
            message = account.message or "Its result is not what the protocol allows."
            failure = Failure(AttemptStatus.RESULT_INVALID.value, message, type=account.type or None)
            return Broken(AttemptStatus.RESULT_INVALID, failure, usage)
        case _:
            code = "" if report.exit_code is None else f" with exit code {report.exit_code}"
            return broken(AttemptStatus.NO_RESULT, f"Its process ended{code} before it returned a result.", usage)


def post_mortem(
    state: ContainerState | None, *, can_kill_supervisor: bool, limits: Limits, diagnostics: str, usage: Usage
) -> Broken:
    """Tell why a sandbox fell silent.

    Args:
        state: The engine's word on the container; None if the engine has no such container, or does not answer.
        can_kill_supervisor: Whether the runtime lets submitted code send SIGKILL to the supervisor.
        limits: Those of the attempt.
        diagnostics: What the supervisor wrote to stderr.
        usage: What is known of it.
    """
    if state is None:
        return broken(AttemptStatus.LOST, "Its container, or the engine, went away while it ran.", usage)
    if state.is_running:
        return broken(AttemptStatus.LOST, "The connection to its container broke while it ran.", usage)
    if state.was_oom_killed:
        return out_of_memory(limits, usage)
    if state.exit_code == _ORPHANED or (state.exit_code == _KILLED and not can_kill_supervisor):
        return broken(AttemptStatus.LOST, "Its container was stopped from outside while it ran.", usage)
    said = f" It said: {diagnostics.strip()[-500:]}" if diagnostics.strip() else ""
    message = f"Its sandbox ended with exit code {state.exit_code} and without a result.{said}"
    return broken(AttemptStatus.NO_RESULT, message, usage)
