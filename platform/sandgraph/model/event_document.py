"""What the scheduler was told, as the JSON documents that are stored.

No state and no diff is repeated: the run has its initial state, and the commit that an event made has the diff.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import cast

from sandgraph.model import events
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey
from sandgraph.model.state import Json, State, StateDiff

#: Events that say nothing but what they are.
_PLAIN: Mapping[str, Callable[[], events.Event]] = {
    "pause_requested": events.PauseRequested,
    "unpause_requested": events.UnpauseRequested,
    "reopened": events.Reopened,
    "cancel_requested": events.CancelRequested,
}
_PLAIN_NAMES: Mapping[object, str] = {events.RunStarted: "started", **{kind: name for name, kind in _PLAIN.items()}}


def to_document(event: events.Event) -> dict[str, Json]:
    """Return the document of an event."""
    match event:
        case events.AttemptSucceeded() | events.AttemptFailed():
            return _ended(event)
        case events.RetryDue(key, attempt):
            return {"type": "retry_due", **_attempt(key, attempt)}
        case events.EventReceived(name, payload, event_id):
            return {"type": "received", "name": name, "payload": payload, "event_id": event_id}
        case events.TimeElapsed(key):
            return {"type": "time_elapsed", **_named(key)}
        case events.RunTimedOut(timeout_s):
            return {"type": "timed_out", "timeout_s": timeout_s}
        case _:
            return {"type": _PLAIN_NAMES[type(event)]}


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
        case "succeeded" | "failed" | "retry_due":
            return _end(document, diff)
        case "started":
            return events.RunStarted(initial)
        case "received":
            name, event_id = cast("str", document["name"]), cast("str", document["event_id"])
            return events.EventReceived(name, document["payload"], event_id)
        case "time_elapsed":
            return events.TimeElapsed(_key(document))
        case "timed_out":
            return events.RunTimedOut(cast("float", document["timeout_s"]))
        case str(name) if name in _PLAIN:
            return _PLAIN[name]()
    raise ValueError(f"there are no events of type {document['type']!r}")


def _ended(event: events.AttemptSucceeded | events.AttemptFailed) -> dict[str, Json]:
    attempt = _attempt(event.key, event.attempt)
    if isinstance(event, events.AttemptFailed):
        known = {name: value for name, value in asdict(event.failure).items() if value is not None}
        return {"type": "failed", **attempt, "status": event.status.value, "failure": known}
    answers: dict[str, Json] = {"entered": event.entered, "again": event.again, "after": list(event.after)}
    return {"type": "succeeded", **attempt, **answers, "value": event.value, "is_amended": event.is_amended}


def _end(document: Mapping[str, Json], diff: StateDiff) -> events.Event:
    key, attempt = _key(document), _number(document)
    if document["type"] == "retry_due":
        return events.RetryDue(key, attempt)
    if document["type"] == "failed":
        failure = Failure(**cast("dict[str, str]", document["failure"]))
        return events.AttemptFailed(key, attempt, AttemptStatus(cast("str", document["status"])), failure)
    entered, again = cast("bool", document["entered"]), cast("bool | None", document["again"])
    after, is_amended = tuple(cast("list[bool]", document["after"])), cast("bool", document.get("is_amended", False))
    return events.AttemptSucceeded(key, attempt, diff, entered, again, after, document.get("value"), is_amended)


def _attempt(key: NodeRunKey, attempt: int) -> dict[str, Json]:
    return {**_named(key), "attempt": attempt}


def _named(key: NodeRunKey) -> dict[str, Json]:
    scope: dict[str, Json] = {"scope": key.scope} if key.scope else {}
    return {"node": key.node, "iteration": key.iteration, **scope}


def _key(document: Mapping[str, Json]) -> NodeRunKey:
    node, scope = cast("str", document["node"]), cast("str", document.get("scope", ""))
    return NodeRunKey(node, cast("int", document["iteration"]), scope)


def _number(document: Mapping[str, Json]) -> int:
    return cast("int", document["attempt"])
