"""The only definition of the frames between the control plane and a sandbox's supervisor.

A frame is a header (payload length, unsigned 32 bit, big-endian; kind, unsigned 8 bit) and its payload. A payload has
two sections: a JSON object (``meta``), preceded by its length, and raw bytes (``body``, often empty) which whoever
passes them on need not parse. ::

    | length u32 | kind u8 | meta length u32 | meta (JSON object) | body |

Order of an attempt: the supervisor says HELLO once it is ready; the host sends one EXECUTE or CHECK; LOG and HEARTBEAT
frames follow, then exactly one RESULT or FAILURE, and nothing after it. Any other order breaks the protocol.

The end of the supervisor's stdin means that its owner is gone: it kills everything and exits.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum

VERSION = 1

#: Bytes of framing around meta and body.
OVERHEAD = 9
_HEADER = struct.Struct(">IB")
_LENGTH = struct.Struct(">I")

#: Largest meta section; the body's limit is the receiver's to set.
MAX_META_BYTES = 32 * 1024 * 1024


class Kind(IntEnum):
    """What a frame says."""

    EXECUTE = 1  # host: meta is a Job, body the state as a JSON object
    CHECK = 2  # host: meta is a Check, no body
    HELLO = 16  # supervisor: meta {"version", "python"}
    LOG = 17  # supervisor: meta {"lines": [[stream, seconds, text, cut], …]}
    HEARTBEAT = 18  # supervisor: meta {}
    RESULT = 19  # supervisor: meta is a Report, body the child's outcome as a JSON object
    FAILURE = 20  # supervisor: meta is a Report; where the child raised, body is its account as a JSON object


class ProtocolError(Exception):
    """The other side broke the protocol."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its kind, the JSON text of its meta section, and its body."""

    kind: Kind
    meta: bytes
    body: bytes = b""

    def read_meta(self) -> dict[str, object]:
        """Parse the meta section.

        Raises:
            ProtocolError: It is not a JSON object.
        """
        try:
            meta = json.loads(self.meta)
        except (ValueError, RecursionError):
            raise ProtocolError(f"the meta section of a {self.kind.name} frame is not JSON") from None
        if not isinstance(meta, dict):
            raise ProtocolError(f"the meta section of a {self.kind.name} frame is not an object")
        return meta


def encode(kind: Kind, meta: dict[str, object], body: bytes = b"") -> bytes:
    """Return the bytes of one frame."""
    head = json.dumps(meta, separators=(",", ":")).encode()
    return b"".join(
        (_HEADER.pack(_LENGTH.size + len(head) + len(body), kind), _LENGTH.pack(len(head)), head, body),
    )


class Decoder:
    """Cuts a stream of bytes into frames.

    Args:
        max_frame_bytes: Largest payload (meta and body) that is accepted.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        self._buffer = bytearray()

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream could end here without cutting a frame."""
        return not self._buffer

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes in and yield each frame they complete.

        Raises:
            ProtocolError: A length over the limit or too small, or an unknown kind.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            length, number = _HEADER.unpack_from(self._buffer)
            if not _LENGTH.size <= length <= self._max:
                raise ProtocolError(f"a frame of {length} bytes is outside the limits")
            if number not in _KINDS:
                raise ProtocolError(f"there is no frame of kind {number}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            (meta_length,) = _LENGTH.unpack_from(self._buffer, _HEADER.size)
            start = _HEADER.size + _LENGTH.size
            if meta_length > min(length - _LENGTH.size, MAX_META_BYTES):
                raise ProtocolError("a frame's meta section is longer than the frame")
            with memoryview(self._buffer) as view:
                frame = Frame(
                    Kind(number), bytes(view[start : start + meta_length]), bytes(view[start + meta_length : end])
                )
            del self._buffer[:end]
            yield frame


_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Source:
    """Submitted code that defines a callable of that name."""

    name: str
    code: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A Python expression over ``state``, or a function called with the state; exactly one is set."""

    expression: str | None = None
    function: Source | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Meta of EXECUTE: what one attempt does.

    In order: ``before`` is asked (a loop's first check); if false, the function is not called. Else ``function`` runs,
    then ``again`` is asked (does the loop go on?). Where the loop ends, or there is none, every condition of ``after``
    is asked (the outgoing edges'), in order, over the state as it then is.

    Attributes:
        function: The node's function; None where only conditions are asked.
        tools: Registered tools that the function may invoke.
        before: A loop's condition, in its first iteration only.
        again: A loop's condition, in every iteration.
        is_last: This is the last iteration allowed: when ``again`` holds all the same, ``after`` is asked too.
        after: Conditions of the outgoing edges.
        run_id: The run, as ``state.run_id`` shows it.
        node: The node's name.
        iteration: From 1.
        attempt: From 1.
        idempotency_key: The same for every attempt of a node run.
        max_output_bytes: Printed bytes after which the attempt ends as ``output_limit``.
        max_line_bytes: Bytes after which a printed line is cut.
        max_result_bytes: Largest outcome of the child.
        max_depth: Deepest nesting of a state value.
        max_keys: Most top-level keys of the state.
    """

    function: Source | None = None
    tools: tuple[Source, ...] = ()
    before: Condition | None = None
    again: Condition | None = None
    is_last: bool = False
    after: tuple[Condition, ...] = ()
    run_id: str = ""
    node: str = ""
    iteration: int = 1
    attempt: int = 1
    idempotency_key: str = ""
    max_output_bytes: int = 1024 * 1024
    max_line_bytes: int = 16 * 1024
    max_result_bytes: int = 5 * 1024 * 1024
    max_depth: int = 64
    max_keys: int = 10_000

    def to_meta(self) -> dict[str, object]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_meta(cls, meta: dict[str, object]) -> Job:
        """Read the JSON form that ``to_meta`` wrote; the sender is trusted."""
        known = dict(meta)
        known["function"] = _source(meta["function"])
        known["tools"] = tuple(_source(tool) for tool in _list(meta["tools"]))
        known["before"] = _condition(meta["before"])
        known["again"] = _condition(meta["again"])
        known["after"] = tuple(_condition(each) for each in _list(meta["after"]))
        return cls(**known)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Check:
    """Meta of CHECK: code to compile and execute without calling it, and expressions to compile.

    The outcome's body is ``{"problems": [{"index", "code", "message", "line", "column"}, …]}``, where ``index`` counts
    sources first, then expressions; codes are ``syntax_error``, ``import_failed`` (executing the module level raised),
    ``name_not_defined`` and ``not_callable``.
    """

    sources: tuple[Source, ...] = ()
    expressions: tuple[str, ...] = ()
    max_output_bytes: int = 64 * 1024
    max_line_bytes: int = 16 * 1024
    max_result_bytes: int = 1024 * 1024

    def to_meta(self) -> dict[str, object]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_meta(cls, meta: dict[str, object]) -> Check:
        """Read the JSON form that ``to_meta`` wrote; the sender is trusted."""
        known = dict(meta)
        known["sources"] = tuple(_source(each) for each in _list(meta["sources"]))
        known["expressions"] = tuple(_list(meta["expressions"]))
        return cls(**known)  # type: ignore[arg-type]


class Reason(StrEnum):
    """Why an attempt ended without a result, as the supervisor saw it; the host adds timeout, cancel and loss."""

    NONE = ""
    ERROR = "error"  # submitted code raised; the frame's body is its account
    NO_RESULT = "no_result"  # the child exited without an outcome
    KILLED = "killed"  # a signal ended the child
    OOM = "oom"  # the kernel killed the child for memory
    RESULT_INVALID = "result_invalid"  # its outcome is not what the protocol allows, or over a limit
    OUTPUT_LIMIT = "output_limit"  # it printed more than it may


@dataclass(frozen=True, slots=True)
class Report:
    """Meta of RESULT and FAILURE: the supervisor's own account, which nothing the child writes can change.

    Attributes:
        reason: Empty in a RESULT.
        message: For a person.
        cpu_s: CPU seconds of every process of the attempt.
        peak_memory_bytes: Largest resident set of any of them.
        output_bytes: Bytes read from the child's stdout and stderr.
        oom_kills: Processes the kernel killed for memory during the attempt.
        exit_code: The child's, where it exited by itself.
        signal: What ended the child, where a signal did and the supervisor had not sent it.
    """

    reason: Reason = Reason.NONE
    message: str = ""
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    output_bytes: int = 0
    oom_kills: int = 0
    exit_code: int | None = None
    signal: int | None = None

    def to_meta(self) -> dict[str, object]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_meta(cls, meta: dict[str, object]) -> Report:
        """Read the JSON form.

        Raises:
            ProtocolError: A field is missing, unknown or of another type.
        """
        try:
            report = cls(**{**meta, "reason": Reason(meta["reason"])})  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            raise ProtocolError("a report's fields are not those of the protocol") from None
        numbers = (report.cpu_s, report.peak_memory_bytes, report.output_bytes, report.oom_kills)
        if not isinstance(report.message, str) or not all(isinstance(n, int | float) for n in numbers):
            raise ProtocolError("a report's fields are not of the protocol's types")
        return report


#: The outcome of a job, the body of its RESULT: ``ops`` are ``{"op": "set", "key": …, "value": …}`` and
#: ``{"op": "delete", "key": …}`` on top-level keys; ``entered`` is false where ``before`` was; ``again`` is null where it
#: was not asked; ``after`` is empty where the loop goes on.
OUTCOME_FIELDS = frozenset({"ops", "entered", "again", "after"})

#: What the child says of an exception, the body of a FAILURE for ``error``; ``condition`` is the expression or
#: function name that raised, ``key`` the state's key that cannot be stored; both null where it is neither.
ACCOUNT_FIELDS = frozenset({"type", "message", "traceback", "condition", "key"})


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _source(value: object) -> Source | None:
    return Source(str(value["name"]), str(value["code"])) if isinstance(value, dict) else None


def _condition(value: object) -> Condition | None:
    if not isinstance(value, dict):
        return None
    return Condition(value["expression"], _source(value["function"]))
