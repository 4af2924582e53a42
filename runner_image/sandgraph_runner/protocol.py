"""The only definition of the frames between the control plane and a sandbox's supervisor.

A frame is a header (payload length, unsigned 32 bit, big-endian; kind, unsigned 8 bit) and its payload. A payload has
two sections: a JSON object (``meta``), preceded by its length, and raw bytes (``body``, often empty) which whoever
passes them on need not parse. ::

    | length u32 | kind u8 | meta length u32 | meta (JSON object) | body |

Order of an attempt: the supervisor says HELLO once it is ready; the host sends one EXECUTE or CHECK; LOG and HEARTBEAT
frames follow, then exactly one RESULT or FAILURE, and nothing after it. Only where the job said ``keep``, and all that
the attempt left has been killed and wiped, HELLO follows, and the next order is taken; the host may send it as soon as
the RESULT is there. Any other order breaks the protocol.

The end of the supervisor's stdin means that its owner is gone: it kills everything and exits.
"""

from __future__ import annotations

import struct

from sandgraph_runner.jobs import BYTES_A_LINE, Check, Condition, Job, Source
from sandgraph_runner.lean import IntEnum, Iterator, StrEnum, TypeVar
from sandgraph_runner.records import Record, record, replace
from sandgraph_runner.text import decoder, encoder

__all__ = [
    "ACCOUNT_FIELDS",
    "BYTES_A_LINE",
    "MAX_META_BYTES",
    "MAX_READS",
    "MAX_READS_BYTES",
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
    "Used",
    "encode",
    "encode_head",
    "replace",
]

VERSION = 3

#: Bytes of framing around meta and body.
OVERHEAD = 9
_HEADER = struct.Struct(">IB")
_LENGTH = struct.Struct(">I")

#: Largest meta section; the body's limit is the receiver's to set.
MAX_META_BYTES = 32 * 1024 * 1024


# Taken before submitted code could replace them.
_decode, _encode = decoder(), encoder()

R = TypeVar("R", bound=Record)


class Kind(IntEnum):
    """What a frame says."""

    EXECUTE = 1  # host: meta is a Job, body the state as a JSON object
    CHECK = 2  # host: meta is a Check, no body
    HELLO = 16  # supervisor: meta {"version", "python"}
    LOG = 17  # supervisor: meta {"lines": [[stream, seconds, text, cut], …]}
    HEARTBEAT = 18  # supervisor: meta is Used, so far
    RESULT = 19  # supervisor: meta is a Report, body the child's outcome as a JSON object
    FAILURE = 20  # supervisor: meta is a Report; where the child raised, body is its account as a JSON object


class ProtocolError(Exception):
    """The other side broke the protocol."""


@record
class Frame(Record):
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
            meta = _decode(self.meta.decode())
        except (ValueError, RecursionError):
            raise ProtocolError(f"the meta section of a {self.kind.name} frame is not JSON") from None
        if not isinstance(meta, dict):
            raise ProtocolError(f"the meta section of a {self.kind.name} frame is not an object")
        return meta


def encode(kind: Kind, meta: dict[str, object], body: bytes = b"") -> bytes:
    """Return the bytes of one frame."""
    return encode_head(kind, meta, len(body)) + body


def encode_head(kind: Kind, meta: dict[str, object], body_size: int) -> bytes:
    """Return the bytes of a frame up to its body, for senders who will not copy a large one."""
    head = _encode(meta).encode()
    return _HEADER.pack(_LENGTH.size + len(head) + body_size, kind) + _LENGTH.pack(len(head)) + head


class Decoder:
    """Cuts a stream of bytes into frames.

    Args:
        max_frame_bytes: Largest payload (meta and body) that is accepted; may be changed.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
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
            if not _LENGTH.size <= length <= self.max_frame_bytes:
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


@record
class Used(Record):
    """Meta of HEARTBEAT: what the attempt used so far, as the kernel counts it for the sandbox's cgroup.

    Where that cannot be read, it is what is known of processes that have ended; None where nothing is.

    Attributes:
        cpu_s: CPU seconds of all processes, the supervisor among them.
        peak_memory_bytes: Most memory at one time, ``/tmp`` and the supervisor among it: exact where it is above the
            sandbox's peak before the attempt, else the most that was seen, which is looked for now and then.
        pids_peak: Most processes and threads at one time, the supervisor among them; likewise.
        oom_kills: Processes the kernel killed for memory.
    """

    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    pids_peak: int | None = None
    oom_kills: int = 0

    @classmethod
    def from_meta(cls, meta: dict[str, object]) -> Used:
        """Read the JSON form.

        Raises:
            ProtocolError: A field is missing, unknown or of another type.
        """
        return _checked(cls(**_known(cls(), meta)))  # type: ignore[arg-type]


@record
class Report(Record):
    """Meta of RESULT and FAILURE: the supervisor's own account, which nothing the child writes can change.

    Attributes:
        reason: Empty in a RESULT.
        message: For a person.
        used: By all of it.
        output_bytes: Bytes read from the child's stdout and stderr, the job's limit at most.
        exit_code: The child's, where it exited by itself.
        signal: What ended the child, where a signal did and the supervisor had not sent it.
    """

    reason: Reason = Reason.NONE
    message: str = ""
    used: Used = Used()
    output_bytes: int = 0
    exit_code: int | None = None
    signal: int | None = None

    @classmethod
    def from_meta(cls, meta: dict[str, object]) -> Report:
        """Read the JSON form.

        Raises:
            ProtocolError: A field is missing, unknown or of another type.
        """
        known = _known(cls(), meta)
        reason, used = known["reason"], known["used"]
        if not isinstance(reason, str) or reason not in _REASONS or not isinstance(used, dict):
            raise ProtocolError("a report has no such reason, or does not say what was used")
        known |= {"reason": Reason(reason), "used": Used.from_meta(used)}
        return _checked(cls(**known))  # type: ignore[arg-type]


_REASONS = frozenset(Reason)


def _known(example: Record, meta: dict[str, object]) -> dict[str, object]:
    if meta.keys() != vars(example).keys():
        raise ProtocolError(f"a {type(example).__name__.lower()}'s fields are not those of the protocol")
    return dict(meta)


def _checked(value: R) -> R:
    """Return a record whose values are of its defaults' types; whose default is None is a number, or not known."""
    for name, default in vars(type(value)()).items():
        found = getattr(value, name)
        allowed = (
            (int, float, type(None)) if name == "cpu_s" else (int, type(None)) if default is None else type(default)
        )
        if not isinstance(found, allowed) or isinstance(found, bool):
            raise ProtocolError(f"{name!r} is not of the protocol's type")
    return value


#: The outcome of a job, the body of its RESULT: ``ops`` are ``{"op": "set", "key": …, "value": …}`` and
#: ``{"op": "delete", "key": …}`` on top-level keys; ``entered`` is false where ``before`` was; ``again`` is null where
#: it was not asked; ``after`` is empty where the loop goes on. ``value`` is the result for a map's item, else null.
#: ``reads`` names the top-level keys that submitted code read or looked for, sorted, or is null where that is not
#: known; ``reads_cut`` says that there were more.
OUTCOME_FIELDS = frozenset({"ops", "entered", "again", "after", "value", "reads", "reads_cut"})

#: Most keys that ``reads`` names, and most bytes of UTF-8 that their names take.
MAX_READS = 1000
MAX_READS_BYTES = 64 * 1024

#: What the child says of an exception, the body of a FAILURE for ``error``; ``condition`` is the expression or
#: function name that raised, ``key`` the state's key that cannot be stored, or ``result`` where it is the result for a
#: map's item; both null where it is neither.
ACCOUNT_FIELDS = frozenset({"type", "message", "traceback", "condition", "key"})
