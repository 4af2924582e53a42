"""Why runs, nodes and attempts fail: codes of their `error`, which no answer of the API has as its own."""

from __future__ import annotations

from sandgraph.api.problems.page import of

_failed = of()
_TRY = "Read the node's log, mend the function, and resume the run with the latest functions."

PAGES = (
    _failed("error", "Submitted code raised an exception.", _TRY, "ValueError: 5 is no name"),
    _failed(
        "timeout",
        "An attempt took longer than its `limits.timeout_s`, or a wait, a map or a subgraph longer than its "
        "`timeout_s`.",
        'Raise the limit, do less, or say what is to happen then: an edge with `"on": ["timed_out"]`.',
        "It took longer than 30 s.",
    ),
    _failed(
        "oom",
        "The kernel killed the attempt, for it took more memory than its `limits.memory_mb`.",
        "Raise the limit, or hold less in memory; `/tmp` counts.",
        "It took more than its 256 MiB of memory.",
    ),
    _failed("killed", "A signal ended the attempt's process.", _TRY, "Its process was ended by signal 11."),
    _failed("no_result", "The attempt's process ended before it returned a result.", _TRY, "Its process ended early."),
    _failed(
        "result_invalid",
        "What the attempt gave back is no state: too large, too deep, or no JSON.",
        "Keep to what JSON knows, and to the bounds of a state.",
        "The value at 'report' is a set, which no JSON has.",
    ),
    _failed(
        "output_limit",
        "The attempt printed more than its `limits.output_kb`.",
        "Print less, or raise the limit.",
        "It printed more than 1024 KiB.",
    ),
    _failed(
        "lost",
        "The sandbox or its connection went away, however often the attempt was tried.",
        "Who operates the platform has to look at the Docker engine. Resume the run then.",
        "The sandbox went away.",
    ),
    _failed(
        "state_conflict",
        "Parallel branches set one key, and neither came before the other.",
        "Give the key a reducer, or let the branches use keys of their own.",
        "Before 'join', the branches of 'a' and 'b' have both set 'result'.",
    ),
    _failed(
        "max_steps_exceeded",
        "The run had more node runs than its graph's `max_steps`.",
        "Raise it, or look for a cycle whose condition never fails.",
        "The run has had the 1000 steps that it may.",
    ),
    _failed(
        "max_iterations_reached",
        'A loop with `"on_max": "fail"` reached its `max_iterations`.',
        "Raise it, or look at why the condition still holds.",
        "'count' still goes on after 10 iterations.",
    ),
    _failed(
        "end_not_reached",
        "Nothing was left to do, and no end was reached: all edges on the way were skipped.",
        "Give a node a default edge.",
        "The run came to no end.",
    ),
    _failed(
        "too_many_deleted_keys",
        "A branch deleted more keys than are remembered while others were open.",
        "Put keys that come and go into one object.",
        "Before 'join' a branch deleted more than 10000 keys while others were open.",
    ),
    _failed(
        "map_items_invalid",
        "There is no list at a map's `items`.",
        "Let a node before the map put one there.",
        "There is no list at 'words'.",
    ),
    _failed(
        "job_too_large",
        "Code, tools and state of an attempt are together more than a sandbox takes.",
        "Make the state smaller, or the tools fewer.",
        "The job has 70000000 bytes.",
    ),
    _failed(
        "function_not_pinned",
        "A run of an earlier release has not pinned the function.",
        "Start a new run.",
        "The run has no function 'double'.",
    ),
    _failed(
        "run_timeout",
        "The run took longer than its graph's `timeout_s`, or the deployment's `SANDGRAPH_RUN_TIMEOUT_S`.",
        "Raise the bound, or resume the run: its time begins anew.",
        "The run took longer than the 3600 s it may.",
    ),
    _failed("cancelled", "Somebody cancelled the run.", "Resume it to go on.", "The run was cancelled."),
    _failed(
        "interrupted",
        "The platform stopped, and was told not to go on with runs (`SANDGRAPH_RESUME_RUNS`).",
        "Resume the run.",
        "The platform stopped before the run had ended.",
    ),
    _failed(
        "too_many_recoveries",
        "The run was in progress whenever the platform stopped, `SANDGRAPH_MAX_RECOVERIES` times; it may be the "
        "reason.",
        "Look at what its nodes do to the host, and resume it then.",
        "The run was gone on with 10 times.",
    ),
)
