"""Reads what comes out of a sandbox: the framing is the supervisor's, the contents are nobody's word until checked.

Every function here raises `ProtocolError` for what is not as it should be, and takes time and memory in proportion to
one frame, whose size is bounded.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from sandgraph.model.run import LogLine, Usage
from sandgraph.model.state import Json, ReduceKey, StateDiff
from sandgraph.sandbox.spec import CheckProblem, Succeeded
from sandgraph_runner.protocol import (
    ACCOUNT_FIELDS,
    MAX_READS,
    MAX_READS_BYTES,
    OUTCOME_FIELDS,
    Check,
    Frame,
    Job,
    Kind,
    ProtocolError,
    Report,
    Used,
    replace,
)

_INTEGERS = range(-(2**63), 2**63)
#: Levels of an outcome around the value of a state's key, with one to spare.
_LEVELS_AROUND = 5
#: Values of an outcome for each key that it changes: the operation and its three members; with one to spare.
_VALUES_AROUND = 5
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_CODE = re.compile(r"[a-z_]{1,64}")
_PROBLEM_FIELDS = frozenset({"index", "code", "message", "line", "column"})


@dataclass(frozen=True, slots=True)
class Answers:
    """What a job came to, besides what it used; see `sandgraph.sandbox.spec.Succeeded`."""

    diff: StateDiff
    entered: bool
    again: bool | None
    after: tuple[bool, ...]
    value: Json
    reads: tuple[str, ...]
    reads_cut: bool

    def succeeded(self, usage: Usage) -> Succeeded:
        """Return the attempt's outcome, with what it used."""
        return Succeeded(self.diff, self.entered, self.again, self.after, usage, self.value, self.reads, self.reads_cut)


@dataclass(frozen=True, slots=True)
class Account:
    """What the child says of an exception that submitted code raised."""

    type: str
    message: str
    traceback: str | None
    condition: str | None


def read_version(frame: Frame) -> int:
    """Return the protocol version of a HELLO."""
    version = _object(frame.meta).get("version")
    if frame.kind is not Kind.HELLO or not _is_int(version):
        raise ProtocolError("the sandbox did not begin with its version")
    return version  # type: ignore[return-value]


def read_lines(frame: Frame) -> list[LogLine]:
    """Return the lines of a LOG."""
    lines = _object(frame.meta).get("lines")
    if not isinstance(lines, list):
        raise ProtocolError("a log frame has no lines")
    return [_line(entry) for entry in lines]


def read_report(frame: Frame) -> Report:
    """Return the supervisor's account of an attempt, with a message of bounded length."""
    report = Report.from_meta(_object(frame.meta))
    fits = (
        _is_count(report.output_bytes)
        and _can_be(report.used)
        and (report.exit_code is None or (_is_int(report.exit_code) and 0 <= report.exit_code <= 255))  # noqa: PLR2004
        and (report.signal is None or (_is_int(report.signal) and 1 <= report.signal <= 64))  # noqa: PLR2004
        and bool(report.reason) is (frame.kind is Kind.FAILURE)
    )
    if not fits:
        raise ProtocolError("a report's numbers cannot be")
    return replace(report, message=_clean(report.message, 4096))


def read_used(frame: Frame) -> Used:
    """Return what a HEARTBEAT says was used so far."""
    used = Used.from_meta(_object(frame.meta))
    if not _can_be(used):
        raise ProtocolError("a heartbeat's numbers cannot be")
    return used


def read_text(body: bytes, most: int) -> str:
    """Return the text of an outcome of so many bytes at most; let go of the bytes before it is read."""
    if len(body) > most:
        raise ProtocolError("the outcome is larger than allowed")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise ProtocolError("what was sent is not UTF-8") from None


def read_answers(text: str, job: Job) -> Answers:
    """Return a job's outcome.

    Large ones take a while (seconds for many megabytes of small numbers) and belong on a thread.
    """
    if _has_more_values(text, job.max_values + _VALUES_AROUND * job.max_keys + MAX_READS):
        raise ProtocolError(f"the outcome has more than the {job.max_values} values that a state may have")
    outcome = _object(text)
    if outcome.keys() != OUTCOME_FIELDS:
        raise ProtocolError("an outcome's fields are not those of the protocol")
    ops, entered, again, after = outcome["ops"], outcome["entered"], outcome["again"], outcome["after"]
    if not isinstance(ops, list) or len(ops) > 2 * job.max_keys or _is_deeper(ops, job.max_depth + _LEVELS_AROUND):
        raise ProtocolError("the outcome changes more keys, or nests deeper, than allowed")
    try:
        diff = StateDiff.from_json(ops)
    except ValueError as wrong:
        raise ProtocolError(str(wrong)) from None
    if any(isinstance(op, ReduceKey) for op in diff.ops):
        # What a change amounts to is told where it is committed, by what it was before.
        raise ProtocolError("an operation is neither a set nor a delete of a key")
    if not isinstance(entered, bool) or not (again is None or isinstance(again, bool)):
        raise ProtocolError("an outcome's answers are neither true nor false")
    if not isinstance(after, list) or not all(isinstance(each, bool) for each in after):
        raise ProtocolError("an outcome's edge conditions are neither true nor false")
    _check_asked(job.as_asked(), entered=entered, again=again, answered=len(after))
    value = _result(outcome["value"], diff, job)
    return Answers(diff, entered, again, tuple(after), value, *_reads(outcome["reads"], outcome["reads_cut"]))


def read_account(body: bytes) -> Account:
    """Return what was raised, each text cut to a bounded length."""
    account = _object(body)
    if account.keys() != ACCOUNT_FIELDS or not all(each is None or isinstance(each, str) for each in account.values()):
        raise ProtocolError("an account's fields are not those of the protocol")

    def text(name: str, longest: int) -> str | None:
        value = account[name]
        return _clean(str(value), longest) if value is not None else None

    return Account(
        text("type", 1024) or "Exception",
        text("message", 8 * 1024) or "",
        text("traceback", 32 * 1024),
        text("condition", 8 * 1024),
    )


def read_problems(text: str, check: Check) -> list[CheckProblem]:
    """Return what a check found."""
    problems = _object(text).get("problems")
    if not isinstance(problems, list):
        raise ProtocolError("a check's outcome has no problems")
    return [_problem(each, len(check.sources) + len(check.expressions)) for each in problems]


def _check_asked(job: Job, *, entered: bool, again: bool | None, answered: int) -> None:
    """Hold the answers against the questions: a child cannot answer what it was not asked."""
    if not entered and job.before is None:
        raise ProtocolError("an outcome says no to a question that was not asked")
    if (again is not None) is not (entered and job.again is not None):
        raise ProtocolError("an outcome answers whether to go on, and was not asked; or the other way round")
    goes_on = again is True and not job.is_last
    if answered != (0 if goes_on else len(job.after)):
        raise ProtocolError("an outcome answers more, or fewer, edge conditions than were asked")


def _result(value: object, diff: StateDiff, job: Job) -> Json:
    """Return the result for a map's item: a job has this or a diff."""
    if job.item_key is None:
        if value is not None:
            raise ProtocolError("an outcome has a result for an item that was not given")
        return None
    if diff:
        raise ProtocolError("an outcome changes the state, which a map's function cannot")
    if _is_deeper([value], job.max_depth + 1):
        raise ProtocolError(f"the result of item {job.item_index} nests deeper than allowed")
    return value  # type: ignore[return-value]


def _reads(names: object, is_cut: object) -> tuple[tuple[str, ...], bool]:
    """Return which keys the submitted code says that it read, and whether there were more."""
    if not isinstance(is_cut, bool):
        raise ProtocolError("an outcome does not say whether its list of keys is cut")
    if names is None:
        return (), is_cut
    if not isinstance(names, list) or len(names) > MAX_READS or not all(isinstance(each, str) for each in names):
        raise ProtocolError("the keys that an outcome says were read are no list of names, or too many")
    if len("".join(names).encode()) > MAX_READS_BYTES or any(one >= other for one, other in pairwise(names)):
        raise ProtocolError("the keys that an outcome says were read are too long, or not sorted")
    return tuple(names), is_cut


def _line(entry: object) -> LogLine:
    match entry:
        case [("stdout" | "stderr") as stream, float() | int() as elapsed, str(text), bool(is_cut)]:
            if isinstance(elapsed, bool) or elapsed < 0 or "\0" in text or "\n" in text:
                raise ProtocolError("a log line's contents cannot be")
            return LogLine(stream, float(elapsed), text, is_cut)
        case _:
            raise ProtocolError("a log line is not one of the protocol's")


def _problem(entry: object, count: int) -> CheckProblem:
    if not isinstance(entry, dict) or entry.keys() != _PROBLEM_FIELDS:
        raise ProtocolError("a problem's fields are not those of the protocol")
    index, code, message, line, column = (entry[name] for name in ("index", "code", "message", "line", "column"))
    fits = (
        _is_int(index)
        and 0 <= index < count
        and isinstance(code, str)
        and _CODE.fullmatch(code)
        and isinstance(message, str)
        and all(each is None or (_is_int(each) and each >= 0) for each in (line, column))
    )
    if not fits:
        raise ProtocolError("a problem's contents cannot be")
    return CheckProblem(index, code, _clean(message, 4096), line, column)


def _object(data: bytes | str) -> dict[str, object]:
    try:
        text = data if isinstance(data, str) else data.decode()
        value = _DECODER.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ProtocolError("what was sent is not JSON as the protocol allows it") from None
    if not isinstance(value, dict):
        raise ProtocolError("what was sent is not a JSON object")
    return value


def _has_more_values(text: str, most: int) -> bool:
    """Tell, without parsing it, whether JSON text has more values than that: parsing holds up everybody else."""
    if text.count(",") + text.count("[") + text.count("{") <= most:
        return False
    bare = _STRING.sub("", text)
    # Each container has one value more than it has commas, unless it is empty.
    return bare.count(",") + bare.count("[") + bare.count("{") > most


def _integer(text: str) -> int:
    value = int(text)
    if value not in _INTEGERS:
        raise ValueError("an integer outside 64 bits")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _can_be(used: Used) -> bool:
    counts = (used.peak_memory_bytes or 0, used.pids_peak or 0, used.oom_kills)
    return all(_is_count(count) for count in counts) and 0 <= (used.cpu_s or 0) < 2**31


def _is_count(value: object) -> bool:
    return _is_int(value) and 0 <= value < 2**63  # type: ignore[operator]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _clean(text: str, longest: int) -> str:
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return cut.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _is_deeper(values: list[object], limit: int) -> bool:
    """Tell whether containers nest deeper than ``limit``, level by level and without recursion."""
    level: list[object] = [values]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


# Made once: to make one takes as long as to read a short outcome.
_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_number, parse_constant=_refuse_constant)
