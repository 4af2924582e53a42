"""Runs a job: loads the function, calls it over the state or an item, takes the diff, asks the conditions.

Nothing here forks or touches a file descriptor: in a sandbox `process` calls it in a process of its own, and the
in-process stand-in calls it directly.
"""

from __future__ import annotations

from types import CoroutineType, FunctionType, GeneratorType

from sandgraph_runner.account import Account, of_exception, of_value
from sandgraph_runner.diff import Diff
from sandgraph_runner.lean import Any, Awaitable, Callable, Mapping, TypeVar, partial
from sandgraph_runner.loading import Loader
from sandgraph_runner.plain import RESULT, Unstorable, storable_result
from sandgraph_runner.protocol import MAX_READS, MAX_READS_BYTES, Condition, Job, Source
from sandgraph_runner.state import ExpressionState, ItemState, ReadOnlyState, WorkflowState, copied
from sandgraph_runner.text import encoder
from sandgraph_runner.tools import job_tools, keep_for_threads

__all__ = ["Account", "run_job"]

# Taken before submitted code could replace them.
_encode = encoder()
_encode_text = encoder(ascii_only=False)

_AROUND_READS = len('"reads":[],"reads_cut":false}')

# What `inspect` calls CO_VARARGS.
_TAKES_MORE = 0x04


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


S = TypeVar("S", bound=WorkflowState)


class _Ended(Exception):
    """The attempt is over without an outcome."""

    def __init__(self, account: Account) -> None:
        super().__init__(account.message)
        self.account = account


class _Attempt:
    def __init__(self, job: Job, state: bytes, loader: Loader) -> None:
        self._job = job.as_asked()
        self._loader = loader
        self._diff = Diff(state)
        # Of each state that was handed out: what was read of it, and the keys that it has.
        self._reads: list[tuple[set[str | None], Mapping[str, Any]]] = []
        self._identity: dict[str, Any] = {
            "run_id": job.run_id,
            "node": job.node,
            "iteration": job.iteration,
            "attempt": job.attempt,
            "idempotency_key": job.idempotency_key,
            "scope": job.scope,
        }

    def outcome(self) -> bytes:
        job = self._job
        entered = job.before is None or self._ask(job.before)
        again, value = None, "null"
        if entered:
            if job.item_key is not None:
                value = self._result(job, job.item_key)
            elif job.function is not None:
                self._call(job.function)
            again = None if job.again is None else self._ask(job.again)
        goes_on = bool(again) and not job.is_last
        after = [] if goes_on else [self._ask(condition) for condition in job.after]
        verdicts = _encode({"entered": entered, "again": again, "after": after})
        outcome = f'{{"ops":[{",".join(self._diff.ops)}],{verdicts[1:-1]},"value":{value},'.encode()
        outcome += self._told_reads(job.max_result_bytes - len(outcome))
        if job.item_key is not None and len(outcome) > job.max_result_bytes:
            error = Unstorable.at(RESULT, f"is larger than the limit of {job.max_result_bytes} bytes")
            error.item = job.item_index
            raise _Ended(of_value(error))
        return outcome

    def _told_reads(self, room: int) -> bytes:
        """Return the end of the outcome, which says what was read: no more than there is room for."""
        try:
            names = {self._job.item_key} - {None}
            for reads, data in self._reads:
                # A thread may still be reading; to copy a set takes one step.
                seen = reads.copy()
                names |= seen if None not in seen else seen | data.keys()
            found = sorted(name for name in names if type(name) is str)
            told = _within(found, min(MAX_READS_BYTES, room - _AROUND_READS))
            return f'"reads":{_encode_text(told)},"reads_cut":{_encode(len(told) < len(found))}}}'.encode()
        except BaseException:  # noqa: BLE001 - the sets are within reach of submitted code
            return b'"reads":null,"reads_cut":false}'

    def _watched(self, state: S, data: Mapping[str, Any]) -> S:
        """Keep what will be read of a state, whatever becomes of it."""
        self._reads.append((state._reads, data))  # noqa: SLF001 - ours
        return state

    def _call(self, source: Source) -> None:
        job = self._job
        state = self._watched(WorkflowState(self._diff.before, **self._identity), self._diff.before)
        data, handed_out = state._data, state._handed_out  # noqa: SLF001 - kept from here on, whatever becomes of it
        try:
            function = self._loader.function(source)
            returned = _settled(function(state), f"the function {source.name!r}")
            if isinstance(returned, dict):
                changes = dict(dict.items(returned))
            elif returned is None or returned is state:
                changes = {}
            else:
                raise TypeError(_unusable(returned, source.name))  # noqa: TRY301 - told like any other error
        except BaseException as error:  # noqa: BLE001 - submitted code may raise anything
            raise _Ended(of_exception(error)) from None
        try:
            self._diff.take(data, handed_out, changes, job)
        except Unstorable as error:
            raise _Ended(of_value(error)) from None
        except BaseException as error:  # noqa: BLE001 - keys may be of a class that was submitted, too
            raise _Ended(of_exception(error)) from None

    def _result(self, job: Job, item_key: str) -> str:
        """Return the JSON text of what the function returns for the job's item."""
        assert job.function is not None  # noqa: S101 - a map has one
        before = self._diff.before
        item = before[item_key][job.item_index]
        try:
            function = self._loader.function(job.function)
            way = _way_of_state(function)
            if way is None:
                returned = function(item)
            else:
                state = self._watched(ItemState(before, **self._identity), before)
                # A copy, or what the function changes in its item would show in the state.
                item = copied(item)
                returned = function(item, state=state) if way == "by name" else function(item, state)
            returned = _settled(returned, f"the function {job.function.name!r}")
        except BaseException as error:  # noqa: BLE001 - submitted code may raise anything
            raise _Ended(of_exception(error)) from None
        try:
            return _encode_text(storable_result(job.item_index, returned, job.max_depth))
        except Unstorable as error:
            raise _Ended(of_value(error)) from None
        except BaseException as error:  # noqa: BLE001 - it may be of a class that was submitted, too
            raise _Ended(of_exception(error)) from None

    def _ask(self, condition: Condition) -> bool:
        name = condition.expression if condition.function is None else condition.function.name
        kind = ReadOnlyState if condition.expression is None else ExpressionState
        state = self._watched(kind(self._diff.after, self._diff.texts, **self._identity), self._diff.after)
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


def _way_of_state(function: Callable[..., Any]) -> str | None:
    """Tell how a map's function takes the state beside its item: ``by name``, ``second``, or not at all."""
    if type(function) is FunctionType and not function.__dict__:
        code = function.__code__
        by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        takes_second = code.co_argcount > 1 or bool(code.co_flags & _TAKES_MORE)
    else:
        # Imported by those who need it: a plain function, which tells by itself, is what nearly everybody writes.
        import inspect  # noqa: PLC0415

        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            # Some that are written in C do not tell.
            return None
        by_name = tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
        positional = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
        takes_second = len(positional) > 1 or any(each.kind is each.VAR_POSITIONAL for each in parameters)
    if "state" in by_name:
        return "by name"
    return "second" if takes_second else None


def _within(names: list[str], most_bytes: int) -> list[str]:
    """Return as many names, from the first on, as may be told."""
    told: list[str] = []
    for name in names[:MAX_READS]:
        try:
            most_bytes -= len(_encode_text(name).encode()) + 1
        except UnicodeEncodeError:
            # No state has such a key.
            continue
        if most_bytes < 0:
            break
        told.append(name)
    return told


def _unusable(returned: object, name: str) -> str:
    kind = type(returned).__name__
    if isinstance(returned, WorkflowState):
        return f"the function {name!r} returned another WorkflowState than the one it was given; return its to_dict()"
    wanted = "return None, the state it was given, or a dict of changes"
    return f"the function {name!r} returned a value of the type {kind}; {wanted}"
