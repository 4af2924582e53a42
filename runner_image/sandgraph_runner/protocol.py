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
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from types import NoneType

from sandgraph_runner.jobs import BYTES_A_LINE, Check, Condition, Job, Meta, Source

__all__ = [
    "ACCOUNT_FIELDS",
    "BYTES_A_LINE",
    "MAX_META_BYTES",
    "OUTCOME_FIELDS",
    "OVERHEAD",
    "VERSION",
    "Check",
    "Condition",
    "Decoder",
    "Frame",
    "Job",
    "Kind",
    "ProtocolError",
    "Reason",
    "Report",
    "Source",
    "encode",
]

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
    size = _LENGTH.size + len(head) + len(body)
    return b"".join((_HEADER.pack(size, kind), _LENGTH.pack(len(head)), head, body))


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
            middle = start + meta_length
            with memoryview(self._buffer) as view:
                frame = Frame(Kind(number), bytes(view[start:middle]), bytes(view[middle:end]))
            del self._buffer[:end]
            yield frame


_KINDS = frozenset(Kind)


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
class Report(Meta):
    """Meta of RESULT and FAILURE: the supervisor's own account, which nothing the child writes can change.

    Attributes:
        reason: Empty in a RESULT.
        message: For a person.
        cpu_s: CPU seconds of every process of the attempt.
        peak_memory_bytes: Largest resident set of any of them.
        output_bytes: Bytes read from the child's stdout and stderr, the job's limit at most.
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
        known = {field.name: _WIDER.get(type(field.default), (type(field.default),)) for field in fields(cls)}
        if len(meta) != len(known) or not all(isinstance(getattr(report, name), known[name]) for name in known):
            raise ProtocolError("a report's fields are not of the protocol's types")
        return report


_WIDER: dict[object, tuple[type, ...]] = {NoneType: (int, NoneType), float: (int, float)}

#: The outcome of a job, the body of its RESULT: ``ops`` are ``{"op": "set", "key": …, "value": …}`` and
#: ``{"op": "delete", "key": …}`` on top-level keys; ``entered`` is false where ``before`` was; ``again`` is null where
#: it was not asked; ``after`` is empty where the loop goes on.
OUTCOME_FIELDS = frozenset({"ops", "entered", "again", "after"})

#: What the child says of an exception, the body of a FAILURE for ``error``; ``condition`` is the expression or
#: function name that raised, ``key`` the state's key that cannot be stored; both null where it is neither.
ACCOUNT_FIELDS = frozenset({"type", "message", "traceback", "condition", "key"})
