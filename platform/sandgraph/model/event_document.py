"""What the scheduler was told, as the JSON documents that are stored.

No state and no diff is repeated: the run has its initial state, and the commit that an event made has the diff.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

from sandgraph.model import events
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey
from sandgraph.model.state import Json, State, StateDiff


def to_document(event: events.Event) -> dict[str, Json]:
    """Return the document of an event."""
    match event:
        case events.RunStarted():
            return {"type": "started"}
        case events.AttemptSucceeded(key, attempt, _, entered, again, after):
            answers: dict[str, Json] = {"entered": entered, "again": again, "after": list(after)}
            return {"type": "succeeded", **_attempt(key, attempt), **answers}
        case events.AttemptFailed(key, attempt, status, failure):
            known = {name: value for name, value in asdict(failure).items() if value is not None}
            return {"type": "failed", **_attempt(key, attempt), "status": status.value, "failure": known}
        case events.RetryDue(key, attempt):
            return {"type": "retry_due", **_attempt(key, attempt)}
        case events.CancelRequested():
            return {"type": "cancel_requested"}
        case events.RunTimedOut(timeout_s):
            return {"type": "timed_out", "timeout_s": timeout_s}


def from_document(document: Mapping[str, Json], initial: State, diff: StateDiff) -> events.Event:
    """Return the event of a document that `to_document` wrote, in this release or in one before it.

    Args:
        document: Of the event.
        initial: The state that the run started with.
        diff: Of the commit that the event made; empty where it made none.

    Raises:
        ValueError: It is no such document.
    """
    try:
        return _event(document, initial, diff)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no document of an event: {error!r}") from error


def _event(document: Mapping[str, Json], initial: State, diff: StateDiff) -> events.Event:
    match document["type"]:
        case "started":
            return events.RunStarted(initial)
        case "succeeded":
            entered, again = cast("bool", document["entered"]), cast("bool | None", document["again"])
            after = tuple(cast("list[bool]", document["after"]))
            return events.AttemptSucceeded(_key(document), _number(document), diff, entered, again, after)
        case "failed":
            status = AttemptStatus(cast("str", document["status"]))
            failure = Failure(**cast("dict[str, str]", document["failure"]))
            return events.AttemptFailed(_key(document), _number(document), status, failure)
        case "retry_due":
            return events.RetryDue(_key(document), _number(document))
        case "cancel_requested":
            return events.CancelRequested()
        case "timed_out":
            return events.RunTimedOut(cast("float", document["timeout_s"]))
        case unknown:
            raise ValueError(f"there are no events of type {unknown!r}")


def _attempt(key: NodeRunKey, attempt: int) -> dict[str, Json]:
    return {"node": key.node, "iteration": key.iteration, "attempt": attempt}


def _key(document: Mapping[str, Json]) -> NodeRunKey:
    return NodeRunKey(cast("str", document["node"]), cast("int", document["iteration"]))


def _number(document: Mapping[str, Json]) -> int:
    return cast("int", document["attempt"])
