"""What cannot be done with what is there, or is not there."""

from __future__ import annotations

from sandgraph.api.problems.page import Page, of

_not_now = of(409)
_RUN = "run_01M83P6WKPG4A75175D707R5SQ"


def _missing(kind: str, path: str, means: str, todo: str, key: str) -> Page:
    return of(404)(f"{kind}_not_found", means, todo, f"There is no {kind} {key!r}.", path)


_LIST_RUNS = "GET /graph/runs lists the runs that there are."

PAGES = (
    _missing(
        "graph",
        "graph_id",
        "There is no graph version of that id.",
        "GET /graph/list lists them; `graph_id` names a version, and is not the name.",
        "double",
    ),
    _missing("run", "run_id", "There is no run of that id.", _LIST_RUNS, _RUN),
    _missing(
        "checkpoint",
        "at",
        "The run has no checkpoint of that number.",
        "GET /graph/history/{run_id} lists them; 0 is the initial state, `last_commit` of the run the last one.",
        "17",
    ),
    _missing(
        "node_run",
        "node",
        "The node did not run, or not in that iteration and scope.",
        "GET /graph/status/{run_id} lists the node runs with their iterations and scopes.",
        "double#3",
    ),
    _missing(
        "attempt",
        "attempt",
        "The node run had no attempt of that number.",
        "GET /graph/status/{run_id} lists the attempts of each node run.",
        "4",
    ),
    _missing(
        "function",
        "name",
        "No function of that name, or of that version, is registered.",
        "GET /nodes/list lists them.",
        "double",
    ),
    _missing(
        "tool", "name", "No tool of that name, or of that version, is registered.", "GET /tools/list lists them.", "add"
    ),
    _missing("key", "key_id", "There is no API key of that id.", "GET /keys lists them.", "key_01M83P6WKPG4A7"),
    _missing("error", "code", "There is no such code.", "GET /errors lists those that there are.", "no_such_code"),
    _not_now(
        "conflict",
        "It is right in itself, but not in the present state of things.",
        "Read the present state, and decide anew.",
        "This cannot be done now.",
    ),
    _not_now(
        "run_already_finished",
        "The run has ended, and stays as it is.",
        "Fork it, or resume it where it failed: both make a new run.",
        f"The run {_RUN} is completed already.",
    ),
    _not_now(
        "run_ended",
        "The run ended before this came.",
        "Nothing is to be done: it takes no more events.",
        f"The run {_RUN} has ended: it takes no more events.",
    ),
    _not_now(
        "run_not_finished",
        "The run has not ended, so that there is nothing to be resumed, and it cannot be deleted.",
        "Wait for its end, or fork it; cancel it to delete it.",
        f"The run {_RUN} has not ended: there is nothing to be resumed. It may be forked.",
    ),
    _not_now(
        "attempt_not_finished",
        "The attempt has not ended, so that there is nothing to compare with.",
        "Try again when it has.",
        "Attempt 1 of 'double' has not ended.",
    ),
    of(412)(
        "precondition_failed",
        "What is to be changed was changed by somebody else since it was read.",
        "Read it again, and send the new ETag as `If-Match`.",
        "They are of revision 3 by now: read them again.",
    ),
    of(428)(
        "precondition_required",
        "A change has to say which version it changes, or somebody else's would be lost.",
        "Send the ETag that you read as `If-Match`; or `*`, to change whatever there is.",
        "Say which version you change: send the ETag that you read as If-Match, or `*` for any.",
        "If-Match",
    ),
    _not_now(
        "idempotency_key_reused",
        "The `Idempotency-Key` was used before, for another request.",
        "Choose a new key for each thing to be done; send the same one only to try that again.",
        "This idempotency key was used for another request; choose a new one.",
    ),
    _not_now(
        "idempotency_in_progress",
        "A request with this `Idempotency-Key` is being answered.",
        "Ask again in a moment, with the same key: the answer is the one that the first request gets.",
        "A request with this Idempotency-Key is being answered; ask again in a moment.",
    ),
    _not_now(
        "idempotency_answer_gone",
        "What was asked for with this `Idempotency-Key` was done. Its answer is not kept: it had a secret in it, or "
        "was too long.",
        "Read what there is now. If the secret is lost, make a new one, with a new `Idempotency-Key`.",
        "This was done already, and its answer is not kept: it had a secret in it, or was too long.",
    ),
    _not_now(
        "event_id_reused",
        "The run had an event of that id with another name or payload.",
        "Choose a new `event_id` for each event.",
        "The id 'approval-1' is that of another event.",
    ),
    _not_now(
        "too_many_events",
        "The run was sent as many events as `SANDGRAPH_MAX_RUN_EVENTS` allows.",
        "Send fewer, larger ones, or start another run.",
        f"The run {_RUN} was sent 1000 events; no more are allowed.",
    ),
    _not_now(
        "commit_not_amendable",
        "The checkpoint was made by a map, a wait or a subgraph as a whole, and its state cannot be changed.",
        "Fork there without changes, or change the checkpoint before.",
        "Commit 3 is that of a map, and cannot be changed.",
    ),
    _not_now(
        "nothing_left",
        "The run ended with that checkpoint: nothing is left that a fork could do.",
        "Fork at an earlier one.",
        "The run ended with commit 5; fork it at an earlier one.",
    ),
    _not_now(
        "not_recoverable",
        "What the run did is not stored as it takes to go on from it: a run of an earlier release, or a database that "
        "was changed by hand. As a run's own error: it could not go on after a restart.",
        "Start a new run with the state that GET /graph/state/{run_id} shows.",
        f"The run {_RUN} cannot be made again: what it was told was not stored.",
    ),
    _not_now(
        "lease_lost",
        "Another process took over this deployment's data, and this one is about to stop.",
        "Ask again: the other one answers.",
        "Another process took the place of this one on its data folder.",
    ),
)
