"""What clients get, described; `api.views` writes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sandgraph.api.schemas.graph import GraphDocument
from sandgraph.model.run import AttemptStatus, NodeRunStatus, RunStatus

_Time = Annotated[AwareDatetime, Field(description="UTC.")]
_Cursor = Annotated[str | None, Field(description="Asks for what follows; null at the end of the list.")]
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
    """Graph versions, newest first."""

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


class RunOutcome(Answer):
    """A run that ended, well or not: `status` says which."""

    run_id: str
    graph_id: str
    status: RunStatus
    final_state: FinalState
    error: ErrorAnswer | None


class RunAccepted(Answer):
    """A run that was accepted and goes on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "run_01M83P6WKPG4A75175D707R5SQ",
                    "graph_id": "graph_01M83P6AAQTJJHCZVMJRSGVCH0",
                    "status": "running",
                    "message": "Ask GET /graph/status/run_01M83P6WKPG4A75175D707R5SQ.",
                }
            ]
        }
    )

    run_id: str
    graph_id: str
    status: RunStatus
    message: str = Field(description="How to learn more.")


class RunSummaryAnswer(Answer):
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


class RunList(Answer):
    """Runs, newest first."""

    runs: list[RunSummaryAnswer]
    next_cursor: _Cursor


class AttemptAnswer(Answer):
    """One try of a node run."""

    attempt: int
    status: AttemptStatus
    error: ErrorAnswer | None
    usage: UsageAnswer | None
    started_at: _Time
    finished_at: _Time | None
    duration_ms: _Milliseconds


class NodeRunAnswer(Answer):
    """One node in one iteration."""

    node: str
    iteration: int
    status: NodeRunStatus
    message: str
    error: ErrorAnswer | None
    started_at: _Time
    finished_at: _Time | None
    duration_ms: _Milliseconds
    attempts: list[AttemptAnswer]


class RunStatusAnswer(RunSummaryAnswer):
    """A run with all that its nodes did."""

    current_nodes: list[str] = Field(description="Nodes that run or wait for their next attempt.")
    node_runs: list[NodeRunAnswer]


class StateAnswer(Answer):
    """A run's state."""

    run_id: str
    status: RunStatus
    commit: int = Field(description="Number of the checkpoint; of a run in flight, of its last commit so far.")
    data: dict[str, object]
    conflicts: list[str] = Field(
        description="Keys that branches in flight have both set; data has the earlier branch's."
    )


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


class HealthAnswer(BaseModel):
    """That the platform lives, or is ready; facts for operators beside it."""

    model_config = ConfigDict(extra="allow")

    status: str
