"""Runs a job: loads the function, calls it over the state, takes the diff, asks the conditions.

Nothing here forks or touches a file descriptor: in a sandbox `process` calls it in a process of its own, and the
in-process stand-in calls it directly.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import CoroutineType, GeneratorType
from typing import Any

from sandgraph_runner.account import Account, of_exception, of_value
from sandgraph_runner.diff import Diff
from sandgraph_runner.loading import Loader
from sandgraph_runner.plain import Unstorable
from sandgraph_runner.protocol import Condition, Job
from sandgraph_runner.state import ExpressionState, ReadOnlyState, WorkflowState
from sandgraph_runner.tools import job_tools, keep_for_threads

__all__ = ["Account", "run_job"]

# Taken before submitted code could replace it.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def run_job(
    job: Job,
    state: bytes,
    *,
    callables: Mapping[str, Callable[..., Any]] | None = None,
    is_alone: bool = False,
) -> bytes | Account:
    """Run a job over a state and return its outcome.

    Submitted code may take any time and raise anything: what it raises, SystemExit and KeyboardInterrupt included,
    comes back as an account. An async function gets an event loop of its own, so the calling thread must not run one.

    Args:
        job: What to do.
        state: The state as the text of a JSON object; it is trusted.
        callables: Live functions that stand in for the sources of these names, for functions, tools and conditions.
        is_alone: Whether this process runs nothing but this job; then its tools are there in threads it starts, too.

    Returns:
        The outcome's JSON text (`protocol.OUTCOME_FIELDS`), or an account of why there is none; ``account.reason`` is
        what the attempt then ends as.
    """
    try:
        with Loader(callables) as loader:
            loaders = {source.name: partial(loader.function, source, "tool") for source in job.tools}
            with job_tools(loaders):
                if is_alone:
                    keep_for_threads()
                return _Attempt(job, state, loader).outcome()
    except _Ended as ended:
        return ended.account


class _Ended(Exception):
    """The attempt is over without an outcome."""

    def __init__(self, account: Account) -> None:
        super().__init__(account.message)
        self.account = account


class _Attempt:
    def __init__(self, job: Job, state: bytes, loader: Loader) -> None:
        self._job = job
        self._loader = loader
        self._diff = Diff(state)
        self._identity = {
            "run_id": job.run_id,
            "node": job.node,
            "iteration": job.iteration,
            "attempt": job.attempt,
            "idempotency_key": job.idempotency_key,
        }

    def outcome(self) -> bytes:
        job = self._job
        entered = job.before is None or self._ask(job.before)
        again = None
        if entered:
            if job.function is not None:
                self._call(job)
            again = None if job.again is None else self._ask(job.again)
        goes_on = bool(again) and not job.is_last
        after = [] if goes_on else [self._ask(condition) for condition in job.after]
        verdicts = _encode({"entered": entered, "again": again, "after": after})
        return f'{{"ops":[{",".join(self._diff.ops)}],{verdicts[1:]}'.encode()

    def _call(self, job: Job) -> None:
        assert job.function is not None  # noqa: S101 - the caller looked
        state = WorkflowState(self._diff.before, **self._identity)  # type: ignore[arg-type]
        data, handed_out = state._data, state._handed_out  # noqa: SLF001 - kept from here on, whatever becomes of it
        try:
            function = self._loader.function(job.function)
            returned = _settled(function(state), f"the function {job.function.name!r}")
            if isinstance(returned, dict):
                changes = dict(dict.items(returned))
            elif returned is None or returned is state:
                changes = {}
            else:
                raise TypeError(_unusable(returned, job.function.name))  # noqa: TRY301 - told like any other error
        except BaseException as error:  # noqa: BLE001 - submitted code may raise anything
            raise _Ended(of_exception(error)) from None
        try:
            self._diff.take(data, handed_out, changes, job)
        except Unstorable as error:
            raise _Ended(of_value(error)) from None
        except BaseException as error:  # noqa: BLE001 - keys may be of a class that was submitted, too
            raise _Ended(of_exception(error)) from None

    def _ask(self, condition: Condition) -> bool:
        name = condition.expression if condition.function is None else condition.function.name
        kind = ReadOnlyState if condition.expression is None else ExpressionState
        state = kind(self._diff.after, self._diff.texts, **self._identity)
        try:
            if condition.function is not None:
                value = self._loader.function(condition.function)(state)
            else:
                code = self._loader.compile_expression(condition.expression or "")
                value = self._loader.evaluate(code, {"state": state})
            return bool(_settled(value, "the condition"))
        except BaseException as error:  # noqa: BLE001 - submitted code may raise anything
            raise _Ended(of_exception(error, name)) from None


def _settled(value: object, who: str) -> object:
    """Return the result of a call, running it to its end where it is a coroutine.

    Raises:
        BaseException: Whatever the coroutine raises.
        TypeError: It is a generator, or something else that would have to be awaited.
    """
    if isinstance(value, CoroutineType):
        # Imported by those who need it: it would cost every sandbox's start 40 ms and 5 MB.
        import asyncio  # noqa: PLC0415

        return asyncio.run(value)
    if isinstance(value, GeneratorType) or hasattr(type(value), "__aiter__"):
        raise TypeError(f"{who} returned a generator: it has a yield in it, so that calling it ran none of its code")
    if isinstance(value, Awaitable):
        raise TypeError(
            f"{who} returned an awaitable of the type {type(value).__name__}; await it in an async function"
        )
    return value


def _unusable(returned: object, name: str) -> str:
    kind = type(returned).__name__
    if isinstance(returned, WorkflowState):
        return f"the function {name!r} returned another WorkflowState than the one it was given; return its to_dict()"
    wanted = "return None, the state it was given, or a dict of changes"
    return f"the function {name!r} returned a value of the type {kind}; {wanted}"
