"""What clients get, described; `api.views` writes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sandgraph.api.schemas.graph import GraphDocument
from sandgraph.api.schemas.health import HealthAnswer as HealthAnswer  # noqa: PLC0414 - one place for all answers
from sandgraph.model.log_filter import Level
from sandgraph.model.reducers import Reducer
from sandgraph.model.run import AttemptStatus, NodeRunStatus, RunStatus

_Time = Annotated[AwareDatetime, Field(description="UTC.")]
_Cursor = Annotated[str | None, Field(description="Asks for what follows; null at the end of the list.")]
_Scope = Annotated[
    str,
    Field(description="Path of the subgraph's or the map's node run that it is part of; empty in the run's own graph."),
]
_Milliseconds = Annotated[float | None, Field(description="From start to end, in milliseconds; null until the end.")]


class Answer(BaseModel):
    """An answer: every field is always there."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class CodeAnswer(Answer):
    """A version of a function or a tool."""

    name: str
    version: int = Field(description="From 1; the same code again makes no new version.")
    hash: str = Field(description="SHA-256 of the code, in hexadecimal.")
    description: str
    created_at: _Time


class FunctionList(Answer):
    """Functions, each in its latest version."""

    nodes: list[CodeAnswer]
    next_cursor: _Cursor


class ToolList(Answer):
    """Tools, each in its latest version."""

    tools: list[CodeAnswer]
    next_cursor: _Cursor


class GraphSummary(Answer):
    """A graph version, as lists show it."""

    graph_id: str = Field(description="Names this version.")
    name: str = Field(description="Shared by all versions.")
    version: int
    created_at: _Time
    node_count: int
    edge_count: int


class GraphAnswer(GraphSummary):
    """A graph version."""

    graph: GraphDocument = Field(description="Its document, every field spelled out; POST /graph/create takes it.")


class GraphList(Answer):
    """Graph versions."""

    graphs: list[GraphSummary]
    next_cursor: _Cursor


class ErrorAnswer(Answer):
    """Why an attempt, a node or a run failed."""

    code: str = Field(description="Stable: an attempt's status, or such as max_steps_exceeded or state_conflict.")
    message: str
    type: str | None = Field(description="Class of the exception, where submitted code raised one.")
    traceback: str | None = Field(description="The submitted code's own frames.")
    node: str | None = Field(description="The node that failed, where one did.")
    condition: str | None = Field(description="The condition that raised, where one did.")


class UsageAnswer(Answer):
    """What one attempt used, as far as it was measured; the sandbox's own supervisor counts in it."""

    wall_s: float = Field(description="Seconds from dispatch into the sandbox to the outcome.")
    cpu_s: float | None = Field(description="CPU seconds, user and system, of all processes in the sandbox.")
    peak_memory_bytes: int | None = Field(description="Most memory of the sandbox; `/tmp` counts.")
    pids_peak: int | None = Field(description="Most processes and threads in the sandbox at one time.")
    output_bytes: int = Field(description="Bytes that the submission printed.")
    oom_kills: int = Field(description="Processes that the kernel killed for memory.")
    exit_code: int | None = Field(description="Of the process that ran the function, where it exited.")
    signal: int | None = Field(description="That ended that process, where one did.")
    queue_s: float = Field(description="Seconds that the attempt waited for a worker's slot.")
    start_s: float = Field(description="Seconds from then until its sandbox was there.")


class LogEntry(Answer):
    """One attempt of one node run; a node run that needed no sandbox has an entry without attempt."""

    node: str
    iteration: int
    scope: _Scope
    attempt: int | None
    status: AttemptStatus | NodeRunStatus
    started_at: _Time
    finished_at: _Time | None
    duration_ms: _Milliseconds
    usage: UsageAnswer | None
    message: str
    error: ErrorAnswer | None


class FinalState(Answer):
    """What a run came to."""

    run_id: str
    data: dict[str, object] = Field(description="The state; of a run that failed, as committed until then.")
    execution_log: list[LogEntry] = Field(description="In order of start.")


class AnnotatedAnswer(Answer):
    """Something with what is noted about a run."""

    tags: list[str] = Field(description="To find it by; sorted.")
    metadata: dict[str, str] = Field(description="What it means to whoever made it.")


class AnnotationsAnswer(AnnotatedAnswer):
    """What is noted about a run."""

    run_id: str


class RunOutcome(AnnotatedAnswer):
    """A run that ended, well or not: `status` says which."""

    run_id: str
    graph_id: str
    status: RunStatus
    final_state: FinalState
    error: ErrorAnswer | None


class RunAccepted(AnnotatedAnswer):
    """A run that was accepted and goes on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "run_01M83P6WKPG4A75175D707R5SQ",
                    "graph_id": "graph_01M83P6AAQTJJHCZVMJRSGVCH0",
                    "status": "running",
                    "message": "Ask GET /graph/status/run_01M83P6WKPG4A75175D707R5SQ.",
                    "tags": ["team:a"],
                    "metadata": {"ticket": "OPS-17"},
                }
            ]
        }
    )

    run_id: str
    graph_id: str
    status: RunStatus
    message: str = Field(description="How to learn more.")


class ForkedFrom(Answer):
    """Where a run began that was made from another one."""

    run_id: str = Field(description="The other one.")
    at: int = Field(description="The checkpoint; of a run that was resumed, its own last one when it began.")


class RunForked(RunAccepted):
    """A run that was made from another one, and goes on from there."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "run_01M83PB3MYV6G6MMY2VRFZ0RQA",
                    "graph_id": "graph_01M83P6AAQTJJHCZVMJRSGVCH0",
                    "status": "running",
                    "message": "Ask GET /graph/status/run_01M83PB3MYV6G6MMY2VRFZ0RQA.",
                    "tags": ["team:a"],
                    "metadata": {"ticket": "OPS-17"},
                    "forked_from": {"run_id": "run_01M83P6WKPG4A75175D707R5SQ", "at": 1},
                }
            ]
        }
    )

    forked_from: ForkedFrom


class EventAnswer(Answer):
    """An event that is kept for its run."""

    run_id: str
    name: str
    event_id: str = Field(description="As it was sent, or made up.")
    status: Literal["accepted", "duplicate"] = Field(description="`duplicate`: the run had this event already.")


class TraceAnswer(Answer):
    """A span, by which it is found where traces are collected."""

    trace_id: str
    span_id: str


class RunSummaryAnswer(AnnotatedAnswer):
    """A run, as lists show it."""

    run_id: str
    graph_id: str
    graph_name: str
    status: RunStatus
    error: ErrorAnswer | None
    created_at: _Time
    started_at: _Time | None
    finished_at: _Time | None
    duration_ms: _Milliseconds
    last_seq: int = Field(description="Number of the last record of its journal.")
    last_commit: int = Field(description="Number of its last checkpoint.")
    paused: bool = Field(description="Whether nothing more is started until it is unpaused.")
    forked_from: ForkedFrom | None = Field(description="Where it was made from another run.")
    recoveries: int = Field(description="How often it was gone on with after the platform had stopped under it.")
    trace: TraceAnswer | None = Field(description="The run's span, where it is of a trace.")


class RunList(Answer):
    """Runs."""

    runs: list[RunSummaryAnswer]
    next_cursor: _Cursor


class ReadsAnswer(Answer):
    """What submitted code read of the state, by its own word."""

    keys: list[str] = Field(description="Names of the keys that it read or looked for.")
    cut: bool = Field(description="Whether there were more.")


class AttemptAnswer(Answer):
    """One try of a node run."""

    attempt: int
    status: AttemptStatus
    error: ErrorAnswer | None
    usage: UsageAnswer | None
    reads: ReadsAnswer | None = Field(description="Null where it is not known.")
    started_at: _Time
    finished_at: _Time | None
    duration_ms: _Milliseconds


class NodeRunAnswer(Answer):
    """One node in one iteration; of a map, one item."""

    node: str
    iteration: int
    scope: _Scope
    status: NodeRunStatus
    message: str
    error: ErrorAnswer | None
    started_at: _Time
    finished_at: _Time | None
    duration_ms: _Milliseconds
    attempts: list[AttemptAnswer]


class QueueAnswer(Answer):
    """Where a run stands that waits for its turn."""

    position: int = Field(description="From 1: how many begin before it, and one.")
    waits_for: str = Field(
        description="The bound that holds it: its graph's `max_concurrent_runs`, or the deployment's `max_active_runs`."
    )


class RunStatusAnswer(RunSummaryAnswer):
    """A run with all that its nodes did."""

    queue: QueueAnswer | None = Field(description="Where it stands while it is pending.")
    current_nodes: list[str] = Field(description="Nodes that run or wait, each once.")
    node_runs: list[NodeRunAnswer] = Field(description="In order of their start.")
    next_cursor: _Cursor


class WriterAnswer(Answer):
    """Who set a key."""

    commit: int = Field(description="Number of the checkpoint; 0 where it came with the initial state.")
    node: str | None
    iteration: int | None
    scope: _Scope
    attempt: int | None = Field(description="Null where no attempt did: of a map's results, or an event's payload.")


class StateAnswer(Answer):
    """A run's state."""

    run_id: str
    status: RunStatus
    commit: int = Field(description="Number of the checkpoint; of a run in flight, of its last commit so far.")
    data: dict[str, object]
    conflicts: list[str] = Field(
        description="Keys that branches in flight have both set; data has the earlier branch's."
    )
    writers: dict[str, WriterAnswer] = Field(description="Of each key, who set it last.")


class SetAnswer(Answer):
    """A key that was given a value."""

    op: Literal["set"]
    key: str
    value: object


class DeleteAnswer(Answer):
    """A key that was removed."""

    op: Literal["delete"]
    key: str


class ReduceAnswer(Answer):
    """A key that was changed by its reducer."""

    op: Reducer
    key: str
    value: object


_Diff = list[SetAnswer | DeleteAnswer | ReduceAnswer]


class CommitAnswer(Answer):
    """A change of the state that counts."""

    number: int = Field(description="Of the checkpoint, from 1.")
    parents: list[int] = Field(description="The checkpoints that it was made over; several where branches met.")
    node: str
    iteration: int
    scope: _Scope
    attempt: int | None = Field(description="Null where no attempt made it: of a map, a subgraph, or an event.")
    diff: _Diff = Field(description="What it changed.")
    merged: _Diff = Field(
        description="What leads from its first parent's state to what its node saw, where branches met or a subgraph "
        "began."
    )
    created_at: _Time


class HistoryAnswer(Answer):
    """A run's commits, first ones first."""

    commits: list[CommitAnswer]
    next_cursor: _Cursor


class ConditionAnswers(Answer):
    """What an attempt's conditions came to."""

    entered: bool = Field(description="False where a loop's first check said no: the function did not run.")
    again: bool | None = Field(description="Whether the loop's condition held still; null where it was not asked.")
    after: list[bool] = Field(description="Of the conditions on the node's edges, in the graph's order.")


class Outcome(Answer):
    """What an attempt came to."""

    status: AttemptStatus
    diff: _Diff
    conditions: ConditionAnswers | None = Field(description="Null where it failed.")
    value: object = Field(description="The result, where it ran for an item of a map.")
    error: ErrorAnswer | None


class Images(Answer):
    """The sandbox images that an attempt ran in."""

    recorded: str
    replayed: str


class ReplayAnswer(Answer):
    """An attempt that was tried again over what it saw, held against what it had come to."""

    run_id: str
    node: str
    iteration: int
    scope: _Scope
    attempt: int
    drift: list[str] = Field(
        description="What is not the same, of `status`, `diff`, `value`, `conditions`, `failure` and `image`."
    )
    recorded: Outcome
    replayed: Outcome
    images: Images


class LogRecord(BaseModel):
    """A record of a run's log; a gap also says `from` and `to` which number, of how many `lines` if known, and why."""

    model_config = ConfigDict(extra="allow")

    seq: int = Field(description="Its number in the run; of a gap, the one before it.")
    ts: _Time
    kind: Literal["log", "event", "truncated", "gap", "end"] = Field(
        description="A line; an event of the journal; where an attempt's output ends at its limit; lines that are kept"
        " no more; the run's end."
    )
    type: str = Field(description="Of a line its stream, of an event what it is about.")
    node: str | None
    iteration: int | None
    scope: _Scope
    attempt: int | None
    status: str = Field(description="Of an event, what was reached.")
    message: str = Field(description="Of a line, what was printed.")
    stream: Literal["stdout", "stderr"] | None
    level: Level | None
    data: dict[str, object] = Field(description="Of a line: `elapsed_s` in its attempt, and whether it was `cut`.")
    trace: TraceAnswer | None = Field(description="The span of its attempt, or of the run, where it is of a trace.")
    final: bool = Field(description="Whether it is the run's end.")


class LogPageAnswer(Answer):
    """Part of a run's log, in order of the numbers; it may be empty and yet not the last."""

    run_id: str
    records: list[LogRecord]
    next: int = Field(description="What follows has higher numbers: `?after=`.")
    previous: int | None = Field(description="What comes before has lower numbers: `?before=`; null at the beginning.")
    more: bool = Field(description="Whether the page ended before all was looked at that was asked for.")
    final: bool = Field(description="Whether the run has ended, and nothing follows.")


class ProblemItem(BaseModel):
    """One thing that is wrong."""

    path: str = Field(description="The field, as nodes[1].function; empty for the whole document.")
    code: str
    message: str
    line: int | None = Field(
        default=None, description="In submitted code or in the body, from 1; absent where there is none."
    )
    column: int | None = Field(default=None, description="In that line, from 1; absent where there is none.")


class ProblemAnswer(BaseModel):
    """An error, as RFC 9457 has it, with a stable code and all that is wrong."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "/errors/unknown_function",
                    "title": "Unknown function",
                    "status": 422,
                    "code": "unknown_function",
                    "detail": "nodes[1].function: No function 'double' is registered; register it first.",
                    "errors": [
                        {
                            "path": "nodes[1].function",
                            "code": "unknown_function",
                            "message": "No function 'double' is registered; register it first.",
                        }
                    ],
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    code: str = Field(description="Stable, for programs.")
    detail: str = Field(description="For people.")
    errors: list[ProblemItem]
