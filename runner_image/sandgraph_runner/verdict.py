"""What the child sends when it is done, and the supervisor's judgement of it.

A message is a tag, a length and JSON text. The first one that is complete counts; whatever follows it is ignored.
Submitted code shares a process with what writes it, so nothing in it is believed.
"""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise, product

from sandgraph_runner.account import MAX_MESSAGE_BYTES, MAX_NAME_BYTES, MAX_TRACEBACK_BYTES
from sandgraph_runner.lean import Any
from sandgraph_runner.plain import RESULT, Unstorable, plain
from sandgraph_runner.protocol import (
    ACCOUNT_FIELDS,
    MAX_READS,
    MAX_READS_BYTES,
    OUTCOME_FIELDS,
    Check,
    Condition,
    Job,
    Reason,
)
from sandgraph_runner.records import Record, record
from sandgraph_runner.text import decoder

OUTCOME, ACCOUNT = b"R", b"A"

#: An account is cut to less by the child; control characters take six bytes each in JSON.
MAX_ACCOUNT_BYTES = 512 * 1024

_HEADER = struct.Struct(">cI")
_PROBLEM_FIELDS = frozenset({"index", "code", "message", "line", "column"})
_PROBLEM_CODES = frozenset({"syntax_error", "import_failed", "name_not_defined", "not_callable"})

# Nesting around a value: the outcome, its operations, the operation; around the result for a map's item: the outcome.
_AROUND, _AROUND_RESULT = 3, 1

_SURROGATES = tuple(rb"\u" + bytes(pair) for pair in product(b"dD", b"89abcdefABCDEF"))
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = [1 if byte in b"[{" else -1 for byte in range(256)]
# All digits to 0, so that the numbers that may be out of range can be looked for as plain text.
_AS_ZEROS = bytes(48 if byte in b"0123456789" else 101 if byte in b"eE" else byte for byte in range(256))
_LARGE = (b"0" * 19, b"e000", b"e+000")


class Invalid(Exception):
    """The child's message is not what the protocol allows; says why, for a person."""


@record
class Verdict(Record):
    """What the child's message comes to.

    Attributes:
        reason: Empty for an outcome.
        message: For a person.
        body: What is passed on.
        type: The exception's class name, in an account.
    """

    reason: Reason
    message: str = ""
    body: bytes = b""
    type: str = ""


class Message:
    """Collects the child's message as it comes in.

    Args:
        order: What the child was asked to do.
    """

    def __init__(self, order: Job | Check) -> None:
        self._limits = {OUTCOME: order.max_result_bytes, ACCOUNT: MAX_ACCOUNT_BYTES}
        self._data = bytearray()
        self.error = ""

    @property
    def is_complete(self) -> bool:
        """Whether the message is there to the last byte."""
        size = self._size()
        return size is not None and len(self._data) >= size

    @property
    def is_settled(self) -> bool:
        """Whether nothing that may still come matters: it is complete, or can be none."""
        return bool(self.error) or self.is_complete

    @property
    def is_empty(self) -> bool:
        """Whether not one byte came."""
        return not self._data

    @property
    def tag(self) -> bytes:
        """What the message is."""
        return bytes(self._data[:1])

    @property
    def body(self) -> bytes:
        """Its JSON text."""
        return bytes(self._data[_HEADER.size : self._size()])

    def feed(self, data: bytes) -> None:
        """Take bytes in; those after the message are dropped."""
        if self.is_settled:
            return
        self._data += data
        if len(self._data) >= _HEADER.size:
            tag, length = _HEADER.unpack_from(self._data)
            if tag not in self._limits:
                self.error = "the submitted code wrote something of its own where its outcome goes"
            elif length > self._limits[tag]:
                self.error = f"the outcome of {length} bytes is over the limit of {self._limits[tag]}"

    def _size(self) -> int | None:
        return _HEADER.size + int(_HEADER.unpack_from(self._data)[1]) if len(self._data) >= _HEADER.size else None


def as_message(tag: bytes, body: bytes) -> bytes:
    """Return the bytes of a message."""
    return _HEADER.pack(tag, len(body)) + body


def judge(message: Message, order: Job | Check, state: bytes) -> Verdict:
    """Judge a settled message; never raises for anything it holds.

    Args:
        message: What the child sent.
        order: What it was asked to do.
        state: The state it was given.
    """
    try:
        if message.error:
            raise Invalid(message.error)  # noqa: TRY301 - one way out for all that is wrong
        if message.tag == ACCOUNT:
            return _account(message.body, order)
        if isinstance(order, Check):
            _check_problems(message.body, order)
        else:
            _check_outcome(message.body, order, state)
    except Invalid as error:
        return Verdict(Reason.RESULT_INVALID, str(error))
    return Verdict(Reason.NONE, body=message.body)


def _check_outcome(body: bytes, job: Job, state: bytes) -> None:
    job = job.as_asked()
    is_item = job.item_key is not None
    outcome = _parse(body, max(job.max_depth, 1) + _AROUND_RESULT if is_item else job.max_depth + _AROUND)
    if not isinstance(outcome, dict) or outcome.keys() != OUTCOME_FIELDS:
        raise Invalid("the outcome's fields are not those of the protocol")
    entered, again, after = outcome["entered"], outcome["again"], outcome["after"]
    if not isinstance(entered, bool) or (job.before is None and not entered):
        raise Invalid("the outcome's 'entered' does not fit the job")
    is_asked = entered and job.again is not None
    if isinstance(again, bool) != is_asked or not isinstance(again, bool | None):
        raise Invalid("the outcome's 'again' does not fit the job")
    expected = 0 if again and not job.is_last else len(job.after)
    if not isinstance(after, list) or len(after) != expected or not all(isinstance(each, bool) for each in after):
        raise Invalid("the outcome's 'after' does not fit the job")
    is_suspicious = _is_suspicious(body)
    keys = _check_ops(outcome["ops"], job, is_suspicious=is_suspicious)
    if keys and (is_item or not entered or job.function is None):
        raise Invalid("the outcome changes the state, though no function was to be called that may")
    _check_count(keys, job, state)
    if outcome["value"] is not None and not is_item:
        raise Invalid("the outcome has a result for an item, though none was given")
    if is_suspicious:
        _check_result(outcome["value"], job)
    _check_reads(outcome["reads"], outcome["reads_cut"])


def _check_ops(ops: object, job: Job, *, is_suspicious: bool) -> dict[str, bool]:
    """Return the keys that are operated on, and whether each is set."""
    if not isinstance(ops, list):
        raise Invalid("the outcome's 'ops' is not a list")
    keys: dict[str, bool] = {}
    for op in ops:
        match op:
            case {"op": "set", "key": str(key), "value": value, **rest} if key and not rest:
                is_set = True
            case {"op": "delete", "key": str(key), **rest} if key and not rest:
                is_set, value = False, None
            case _:
                raise Invalid("an operation is neither a set nor a delete of a key")
        if key in keys:
            raise Invalid(f"state key {key[:100]!r}: it has two operations")
        if is_suspicious:
            _check_value(key, value, job.max_depth)
        keys[key] = is_set
    return keys


def _check_value(key: str, value: object, max_depth: int) -> None:
    try:
        plain(key, 0)
        plain(value, max_depth)
    except Unstorable as error:
        error.path.insert(0, key)
        raise Invalid(str(error).encode("utf-8", "backslashreplace").decode()) from None


def _check_result(value: object, job: Job) -> None:
    try:
        plain(value, job.max_depth)
    except Unstorable as error:
        error.path.insert(0, RESULT)
        error.item = job.item_index
        raise Invalid(str(error).encode("utf-8", "backslashreplace").decode()) from None


def _check_reads(reads: object, is_cut: object) -> None:
    if not isinstance(is_cut, bool):
        raise Invalid("the outcome's 'reads_cut' is neither true nor false")
    if reads is None:
        return
    if not isinstance(reads, list) or len(reads) > MAX_READS or not all(isinstance(each, str) for each in reads):
        raise Invalid("the outcome's 'reads' are not a list of keys, or too many")
    try:
        size = len("".join(reads).encode())
    except UnicodeEncodeError:
        raise Invalid("the outcome's 'reads' are not valid text") from None
    if size > MAX_READS_BYTES or any(one >= other for one, other in pairwise(reads)):
        raise Invalid("the outcome's 'reads' are too long, or not sorted")


def _check_count(keys: dict[str, bool], job: Job, state: bytes) -> None:
    # Every key of the state has a quote and a colon in its text, so that mostly there is no need to parse it again.
    if state.count(b'"') // 2 + len(keys) <= job.max_keys or not keys:
        return
    before = _decode_state(state.decode()).keys()
    count = len(before | keys.keys()) - sum(not is_set for is_set in keys.values())
    if count > max(job.max_keys, len(before)):
        raise Invalid(f"the state would have {count} keys; {job.max_keys} are allowed")


def _check_problems(body: bytes, check: Check) -> None:
    outcome = _parse(body, _AROUND)
    count = len(check.sources) + len(check.expressions)
    problems = outcome.get("problems") if isinstance(outcome, dict) and len(outcome) == 1 else None
    if not isinstance(problems, list) or len(problems) > count:
        raise Invalid("the check's outcome is not a list of problems")
    for problem in problems:
        if not isinstance(problem, dict) or problem.keys() != _PROBLEM_FIELDS:
            raise Invalid("a problem's fields are not those of the protocol")
        numbers = (problem["index"], problem["line"], problem["column"])
        is_sound = (
            all(type(number) is int or number is None for number in numbers)
            and problem["index"] in range(count)
            and problem["code"] in _PROBLEM_CODES
            and _is_valid_text(problem["message"])
        )
        if not is_sound:
            raise Invalid("a problem's fields are not of the protocol's types")


def _account(body: bytes, order: Job | Check) -> Verdict:
    account = _parse(body, 1)
    if not isinstance(account, dict) or account.keys() != ACCOUNT_FIELDS:
        raise Invalid("the account's fields are not those of the protocol")
    kind, message, traceback, key = (account[name] for name in ("type", "message", "traceback", "key"))
    bounds = ((kind, MAX_NAME_BYTES), (message, MAX_MESSAGE_BYTES), (traceback, MAX_TRACEBACK_BYTES))
    is_sound = all(isinstance(text, str) and len(text) <= limit for text, limit in bounds)
    if not is_sound or not (key is None or (isinstance(key, str) and len(key) <= MAX_NAME_BYTES)):
        raise Invalid("the account's fields are not of the protocol's types")
    if account["condition"] not in {None, *_condition_names(order)}:
        raise Invalid("the account names a condition that was not asked")
    if _is_suspicious(body):
        try:
            plain(account, 1)
        except Unstorable:
            raise Invalid("the account is not valid text") from None
    if key is not None:
        return Verdict(Reason.RESULT_INVALID, message, body, kind)
    return Verdict(Reason.ERROR, f"{kind}: {message}" if message else kind, body, kind)


def _condition_names(order: Job | Check) -> list[str | None]:
    if isinstance(order, Check):
        return []
    order = order.as_asked()
    asked: list[Condition] = [each for each in (order.before, order.again, *order.after) if each is not None]
    return [each.expression if each.function is None else each.function.name for each in asked]


def _parse(body: bytes, max_depth: int) -> Any:
    """Parse strictly: UTF-8, no duplicate keys, no NaN, and no deeper than that.

    Raises:
        Invalid: It is not JSON of that kind.
    """
    # Before the parser sees it: this takes neither stack nor much memory.
    brackets = _without_strings(body).translate(None, _NOT_BRACKETS)
    deepest = max(accumulate(map(_STEP.__getitem__, brackets)), default=0)
    if deepest > max_depth:
        raise Invalid(f"the outcome is nested {deepest} levels deep; {max_depth} are allowed, those around a value too")
    try:
        return _decode(body.decode())
    except UnicodeDecodeError as error:
        raise Invalid(f"the outcome is not valid UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the outcome is not JSON: {str(error)[:200]}") from None


def _without_strings(body: bytes) -> bytes:
    # Without escaped quotes, strings are every second part. Of backslashes in a row, the first escapes the second.
    return b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])


def _is_valid_text(value: object) -> bool:
    """Tell whether it is text without lone surrogates, which JSON can write and UTF-8 cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_surrogate(body: bytes) -> bool:
    return rb"\u" in body and any(each in body for each in _SURROGATES)


def _is_suspicious(body: bytes) -> bool:
    """Tell whether some number may be out of range, or some string may hold a lone surrogate."""
    numbers = _without_strings(body).translate(_AS_ZEROS)
    return any(large in numbers for large in _LARGE) or _has_surrogate(body)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Invalid(f"the outcome has an object with the key {twice[:100]!a} twice")
    return found


def _no_constant(name: str) -> None:
    raise Invalid(f"the outcome holds {name}, which JSON does not have")


_decode, _decode_state = decoder(pairs=_unique, constant=_no_constant), decoder()
