"""Every error Sandgraph raises on purpose, in one tree.

::

    SandgraphError
    ├── InvalidInput           what was submitted is wrong, and where: one or more problems
    │   └── PayloadTooLarge    a body, a source or a state over its limit
    ├── NotFound               no graph, run, function or tool of that id or name
    ├── Conflict               right in itself, but not in the present state of things
    ├── PreconditionFailed     what was read before is not there any more
    ├── QueueFull              the bounded queue of runs has no room; try again later
    │   └── QuotaExceeded      a tenant has used up what it may; its code says of what
    ├── ConfigurationError     the deployment's settings cannot work
    └── Unavailable            a part that is needed does not answer
        ├── EngineUnavailable  the Docker engine
        └── SandboxLost        a sandbox that went away without a word

Each carries a stable ``code`` for programs and a message for people: what was wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a submission.

    Attributes:
        path: The field, as ``nodes[1].function``; the empty string is the whole document.
        code: Stable identifier in snake_case, such as ``unknown_function``.
        message: What is wrong and what to do, for a person.
        line: Line in submitted code, from 1, where there is one.
        column: Column in that line, from 1.
    """

    path: str
    code: str
    message: str
    line: int | None = None
    column: int | None = None


class SandgraphError(Exception):
    """Root of the tree.

    Args:
        message: For a person.
        code: Overrides the class's own stable code.
    """

    code: str = "internal_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidInput(SandgraphError):
    """What was submitted is wrong; nothing of it was stored.

    Args:
        problems: At least one, in the document's order. The first one gives the error its code and message.
    """

    code = "invalid_input"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        where = f"{first.path}: " if first.path else ""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{where}{first.message}{more}", code=first.code)
        self.problems = tuple(problems)

    @classmethod
    def at(cls, path: str, code: str, message: str) -> InvalidInput:
        """Make the error of a single problem."""
        return cls([Problem(path, code, message)])


class PayloadTooLarge(InvalidInput):
    """A body, a source or a state is over its configured limit."""


class NotFound(SandgraphError):
    """There is nothing of that kind with that id.

    Args:
        kind: ``graph``, ``run``, ``function`` or ``tool``; the code becomes ``<kind>_not_found``.
        key: The id or name that was asked for.
    """

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"There is no {kind} {key!r}.", code=f"{kind}_not_found")


class Conflict(SandgraphError):
    """Right in itself, but not in the present state of things."""

    code = "conflict"


class PreconditionFailed(SandgraphError):
    """What the caller had read is not what there is by now."""

    code = "precondition_failed"


class QueueFull(SandgraphError):
    """The queue of runs has no room; the caller may try again after ``retry_after_s`` seconds."""

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceeded(QueueFull):
    """A tenant has used up what it may; ``code`` says of what.

    Args:
        message: For a person.
        code: Stable.
        retry_after_s: Seconds after which it may have more.
    """

    def __init__(self, message: str, *, code: str, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.code = code


class ConfigurationError(SandgraphError):
    """The deployment's settings cannot work; the message names the setting."""

    code = "configuration_error"

    @classmethod
    def of(cls, lines: Sequence[str]) -> ConfigurationError:
        """Make the error of all that is wrong, a line each."""
        count = "One thing is" if len(lines) == 1 else f"{len(lines)} things are"
        return cls("\n  - ".join([f"These settings cannot work. {count} wrong:", *lines]))


class Unavailable(SandgraphError):
    """A part that is needed does not answer."""

    code = "unavailable"


class EngineUnavailable(Unavailable):
    """The Docker engine does not answer, or lacks something that is needed (image, runtime)."""

    code = "engine_unavailable"


class SandboxLost(Unavailable):
    """A sandbox went away without a word: the engine restarted, or somebody removed the container."""

    code = "sandbox_lost"
