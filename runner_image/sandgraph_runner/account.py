"""What is told of an exception: bounded, and built without trusting the exception."""

from __future__ import annotations

import os
from types import TracebackType

from sandgraph_runner.lean import Iterator
from sandgraph_runner.plain import Unstorable
from sandgraph_runner.protocol import Reason
from sandgraph_runner.records import Record, record
from sandgraph_runner.text import encoder

MAX_MESSAGE_BYTES = 8 * 1024
MAX_TRACEBACK_BYTES = 32 * 1024
MAX_NAME_BYTES = 1024

_MAX_FRAMES = 100
_MAX_CHAIN = 8
_MAX_GROUP = 10
_MAX_TOLD = 30
_MAX_LINE = 500

# Frames of ours and of the standard library say nothing about what was submitted.
_NOT_SUBMITTED = (os.path.dirname(__file__) + os.sep, os.path.dirname(os.__file__) + os.sep, "<frozen ")  # noqa: PTH120

# Taken before submitted code could replace them.
_encode = encoder()


@record
class Account(Record):
    """Why submitted code gave no outcome.

    Attributes:
        type: The exception's class name.
        message: Its text, cut to 8 KiB.
        traceback: The submitted code's own frames, cut to 32 KiB.
        condition: The expression or function name, where a condition raised.
        key: The state's key, or `plain.RESULT`, where a value cannot be stored; the attempt then ends as
            ``result_invalid``.
    """

    type: str
    message: str
    traceback: str = ""
    condition: str | None = None
    key: str | None = None

    @property
    def reason(self) -> Reason:
        """What an attempt with this account ends as."""
        return Reason.ERROR if self.key is None else Reason.RESULT_INVALID

    def to_json(self) -> bytes:
        """Return the body of a FAILURE frame."""
        return _encode(self.to_meta()).encode()


def of_exception(error: BaseException, condition: str | None = None) -> Account:
    """Describe what submitted code raised; whatever the exception's own methods do, this returns."""
    name = _name(error)
    try:
        text = "".join(_render(error, [_MAX_TOLD]))
    except BaseException:  # noqa: BLE001 - an exception's own attributes may raise anything
        text = f"{name}: (the traceback cannot be shown)\n"
    return Account(name, _message(error), _middle_cut(text), condition)


def of_value(error: Unstorable) -> Account:
    """Describe a value that cannot be stored."""
    return Account(error.type_name, _cut(str(error), MAX_MESSAGE_BYTES), key=_cut(error.key, MAX_NAME_BYTES))


def _render(error: BaseException, left: list[int], depth: int = 0) -> Iterator[str]:
    """Yield the text of an exception with its causes and parts, as long as of all of them some are left to tell."""
    chain = [(error, "")]
    while len(chain) < _MAX_CHAIN:
        last = chain[-1][0]
        if last.__cause__ is not None:
            chain.append((last.__cause__, "\nThe above exception was the direct cause of the following exception:\n\n"))
        elif last.__context__ is not None and not last.__suppress_context__:
            chain.append(
                (last.__context__, "\nDuring handling of the above exception, another exception occurred:\n\n")
            )
        else:
            break
    for each, link in reversed(chain):
        left[0] -= 1
        if left[0] < 0:
            return
        frames = list(_frames(each.__traceback__))
        if frames:
            yield "Traceback (most recent call last):\n"
            yield from frames
        message = _message(each)
        yield f"{_name(each)}: {message}\n" if message else f"{_name(each)}\n"
        for note in list(getattr(each, "__notes__", ()))[:_MAX_GROUP]:
            yield _cut(str(note), MAX_NAME_BYTES) + "\n"
        if isinstance(each, BaseExceptionGroup) and depth < _MAX_CHAIN:
            for number, part in enumerate(each.exceptions[:_MAX_GROUP], 1):
                yield f"  +-- {number} of {len(each.exceptions)}\n"
                yield from (f"  | {line}\n" for text in _render(part, left, depth + 1) for line in text.splitlines())
        yield link


def _frames(trace: TracebackType | None) -> Iterator[str]:
    """Yield the text of the submitted code's frames; of very many, the last."""
    # Imported by those who need it: it would cost every sandbox's start 3 ms.
    import traceback  # noqa: PLC0415

    found = traceback.extract_tb(trace, limit=-2 * _MAX_FRAMES)
    own = [frame for frame in found if not frame.filename.startswith(_NOT_SUBMITTED)]
    summary = traceback.StackSummary.from_list(own[-_MAX_FRAMES:])
    for text in summary.format():
        yield "\n".join(line if len(line) <= _MAX_LINE else line[:_MAX_LINE] + "…" for line in text.split("\n"))


def _name(error: BaseException) -> str:
    # Read past the class, whose own attributes may be anything.
    return _cut(str(type.__dict__["__name__"].__get__(type(error))), MAX_NAME_BYTES)


def _message(error: BaseException) -> str:
    try:
        text = _cut(str(error), MAX_MESSAGE_BYTES)
    except BaseException:  # noqa: BLE001 - submitted code's own __str__ may raise anything
        return "(its message cannot be shown: __str__ raised)"
    if isinstance(error, SystemExit):
        return f"the code called for an exit ({text or 'no status'}); return from the function instead"
    return text


def _cut(text: str, limit: int) -> str:
    """Cut to so many bytes of UTF-8, and make valid text of it."""
    # Characters are cut first: encoding 100 MB to keep 8 KiB would double what the sandbox needs.
    data = text[: limit + 1].encode("utf-8", "backslashreplace")
    return data.decode() if len(data) <= limit else data[: limit - 3].decode("utf-8", "ignore") + "…"


def _middle_cut(text: str) -> str:
    """Cut a traceback to its limit: its end says most, its beginning where it came from."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= MAX_TRACEBACK_BYTES:
        return data.decode()
    head, tail = data[: MAX_TRACEBACK_BYTES // 4], data[-(MAX_TRACEBACK_BYTES // 2) :]
    return head.decode("utf-8", "ignore") + "\n… cut …\n" + tail.decode("utf-8", "ignore")
