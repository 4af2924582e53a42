"""Graphs as clients write them, and their way into the model."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, FailFast, Field, Tag
from pydantic_core import PydanticCustomError

from sandgraph.api.schemas.keys import Passed, Reducers, StateKey, pairs, reducers, refuse_crowd
from sandgraph.api.schemas.tree import containers
from sandgraph.api.schemas.validation import (
    EXPRESSION_TAG,
    FUNCTION_TAG,
    NUMBER_TAG,
    WORD_TAG,
    Submitted,
    parse,
)
from sandgraph.errors import InvalidInput
from sandgraph.model.document import inputs_of
from sandgraph.model.graph import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MAX_STEPS,
    MAX_ATTEMPTS,
    MAX_CONCURRENCY,
    Condition,
    Edge,
    Graph,
    Node,
    NodeType,
    OnError,
    OnMax,
    Outcome,
)
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.retry import Retry
from sandgraph.model.run import AttemptStatus
from sandgraph.settings import Settings

_LIMITS, _RETRY = Limits(), Retry()

#: Longest that a node may take by itself, in seconds: a year.
_LONGEST_S = 31_536_000


#: The same for who reads schemas.
_PRINTABLE = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}


def _printable(text: str) -> str:
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise PydanticCustomError("control_character", "It must not contain control characters.")
    return text


#: A name that clients choose for something inside a graph, or by which they mean something registered.
Label = Annotated[str, Field(min_length=1, max_length=128, json_schema_extra=_PRINTABLE), AfterValidator(_printable)]
GraphName = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra=_PRINTABLE), AfterValidator(_printable)
]

Retryable = Literal["error", "timeout", "oom", "killed", "no_result", "result_invalid", "output_limit", "lost"]

AnyOutcome = Literal["succeeded", "failed", "timed_out", "skipped"]


def _kind_of_join(value: object) -> str | None:
    # A boolean is an integer to Python, and none here.
    if isinstance(value, bool):
        return None
    return {str: WORD_TAG, int: NUMBER_TAG}.get(type(value))


Join = Annotated[
    Annotated[Literal["all", "any"], Tag(WORD_TAG)] | Annotated[int, Field(ge=1, le=1_000_000), Tag(NUMBER_TAG)],
    Discriminator(
        _kind_of_join,
        custom_error_type="wrong_type",
        custom_error_message='It must be "all", "any" or a number.',
    ),
]


class FunctionCondition(Submitted):
    """A condition that a registered function decides."""

    function: Label = Field(description="Name of a registered function; what it returns is taken as true or false.")


def _kind_of_condition(value: object) -> str | None:
    if isinstance(value, str):
        return EXPRESSION_TAG
    return FUNCTION_TAG if isinstance(value, (dict, FunctionCondition)) else None


Expression = Annotated[str, Field(min_length=1, max_length=10_000)]
AnyCondition = Annotated[
    Annotated[Expression, Tag(EXPRESSION_TAG)] | Annotated[FunctionCondition, Tag(FUNCTION_TAG)],
    Discriminator(
        _kind_of_condition,
        custom_error_type="wrong_type",
        custom_error_message='It must be an expression (a string) or {"function": name}.',
    ),
]


class LimitsDocument(Submitted):
    """Hard limits of each attempt's sandbox; the deployment has a ceiling for each."""

    cpus: float = Field(default=_LIMITS.cpus, description="CPU cores' worth of time; may be a fraction.")
    memory_mb: int = Field(default=_LIMITS.memory_mb, description="Memory and swap together, in MiB; `/tmp` counts.")
    timeout_s: float = Field(default=_LIMITS.timeout_s, description="Wall time of an attempt in seconds.")
    pids: int = Field(default=_LIMITS.pids, description="Processes and threads.")
    tmp_mb: int = Field(default=_LIMITS.tmp_mb, description="Size of `/tmp` in MiB.")
    output_kb: int = Field(default=_LIMITS.output_kb, description="Bytes on stdout and stderr together, in KiB.")


class RetryDocument(Submitted):
    """What becomes of a failed attempt: exponential back-off."""

    max_attempts: int = Field(
        default=_RETRY.max_attempts,
        ge=1,
        le=MAX_ATTEMPTS,
        description="In all, the first among them; those that were lost do not count.",
    )
    initial_s: float = Field(
        default=_RETRY.initial_s, ge=0, le=86_400, description="Seconds before the second attempt."
    )
    factor: float = Field(default=_RETRY.factor, ge=1, le=100, description="By which each further wait grows.")
    max_s: float = Field(default=_RETRY.max_s, ge=0, le=86_400, description="Longest wait in seconds.")
    jitter: bool = Field(default=_RETRY.jitter, description="Whether a wait is a random part of itself.")
    # Fail-fast: the list may be as long as a body.
    on: Annotated[list[Retryable], FailFast()] = Field(
        default=["error", "lost", "oom", "timeout"],
        max_length=8,
        description="Which failures are tried again; `lost` always is.",
    )


class NodeDocument(Submitted):
    """A step of a graph."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "begin", "type": "start"},
                {
                    "name": "count",
                    "type": "loop",
                    "function": "count",
                    "condition": "state.counter < 5",
                    "max_iterations": 10,
                    "on_max": "exit",
                    "limits": {"cpus": 0.5, "memory_mb": 128, "timeout_s": 10},
                    "retry": {"max_attempts": 3, "on": ["error", "timeout"]},
                },
                {"name": "use", "function": "use", "join": "any"},
                {
                    "name": "review_all",
                    "type": "map",
                    "items": "files",
                    "function": "review_file",
                    "into": "reviews",
                    "max_concurrency": 4,
                },
                {"name": "approval", "type": "wait", "event": "approved", "into": "approval", "timeout_s": 86_400},
                {
                    "name": "publish",
                    "type": "subgraph",
                    "graph_id": "graph_01M83P6AAQTJJHCZVMJRSGVCH0",
                    "inputs": {"input": "amount"},
                    "outputs": ["output"],
                },
            ]
        }
    )

    name: Label = Field(description="Unique in its graph.")
    # Lax in the one sense that JSON has no enumerations: the value's string is taken.
    type: Annotated[NodeType, Field(strict=False)] = Field(default=NodeType.STANDARD, description="What it does.")
    function: Label | None = Field(default=None, description="Name of the registered function that it runs.")
    condition: AnyCondition | None = Field(default=None, description="A loop's: asked before each iteration.")
    max_iterations: int | None = Field(
        default=None, ge=1, le=1_000_000, description="A loop's bound, counted per entry."
    )
    on_max: Annotated[OnMax, Field(strict=False)] = Field(
        default=OnMax.EXIT, description="What becomes of a loop that reaches its bound."
    )
    join: Join = Field(
        default="all",
        description="Which of its inputs it waits for: `all` that are not skipped, `any` one, or so many; what could "
        "only lead here is cancelled then.",
    )
    limits: LimitsDocument = Field(default=LimitsDocument(), description="Of each attempt's sandbox.")
    retry: RetryDocument = Field(default=RetryDocument(), description="What becomes of a failed attempt.")
    items: StateKey | None = Field(
        default=None, description="A map's: key of the list; its function runs once for each item."
    )
    into: StateKey | None = Field(
        default=None,
        description="Key that gets a map's results, in the order of its items, or the payload of the event that a wait "
        "waited for; without it, a wait's goes under the event's name.",
    )
    max_concurrency: int = Field(
        default=DEFAULT_CONCURRENCY,
        ge=1,
        le=MAX_CONCURRENCY,
        description="A map's: most of its items that run at the same time.",
    )
    event: Label | None = Field(
        default=None, description="A wait's: name of the event; without it, it ends when its time is over."
    )
    timeout_s: float | None = Field(
        default=None, gt=0, le=_LONGEST_S, description="Longest that a wait, a map or a subgraph takes, in seconds."
    )
    graph_id: Label | None = Field(default=None, description="A subgraph's: the graph version that it runs.")
    inputs: Passed | None = Field(
        default=None,
        description="What a subgraph sees: its keys, each with the key outside, or a list where the names are the "
        "same; without it, the whole state.",
    )
    outputs: Passed | None = Field(
        default=None,
        description="What a subgraph leaves: keys outside, each with the subgraph's, or a list where the names are the "
        "same; without it, all that it changed.",
    )


class EdgeDocument(Submitted):
    """A way from one node to the next."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"source": "score", "target": "end", "condition": "state.score >= 8"},
                {"source": "score", "target": "fix", "condition": {"function": "needs_fixing"}},
                {"source": "score", "target": "end", "default": True},
                {"source": "score", "target": "alarm", "on": ["failed", "timed_out"]},
            ]
        }
    )

    source: Label = Field(description="Name of the node it leaves.")
    target: Label = Field(description="Name of the node it enters.")
    condition: AnyCondition | None = Field(
        default=None, description="A Python expression over `state`, or a registered function: taken only if it holds."
    )
    default: bool = Field(default=False, description="Taken only if no other edge of its source is.")
    # Fail-fast: the list may be as long as a body.
    on: Annotated[list[AnyOutcome], FailFast()] = Field(
        default=["succeeded"],
        min_length=1,
        max_length=4,
        description="Taken only if one of these became of its source; what fails and has an edge for that does not "
        "fail its run.",
    )


class GraphDocument(Submitted):
    """A graph."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "double",
                    "nodes": [
                        {"name": "begin", "type": "start"},
                        {"name": "double", "function": "double"},
                        {"name": "finish", "type": "end"},
                    ],
                    "edges": [{"source": "begin", "target": "double"}, {"source": "double", "target": "finish"}],
                },
                {
                    "name": "double, or say why not",
                    "start_node": "double",
                    "on_error": "finish",
                    "nodes": [
                        {"name": "double", "function": "double"},
                        {"name": "alarm", "function": "alarm"},
                        {"name": "finish", "type": "end", "join": "any"},
                    ],
                    "edges": [
                        {"source": "double", "target": "finish"},
                        {"source": "double", "target": "alarm", "on": ["failed", "timed_out"]},
                        {"source": "alarm", "target": "finish"},
                    ],
                },
                {
                    "name": "review files once they are approved",
                    "state": {"findings": {"reducer": "extend"}},
                    "max_concurrent_runs": 2,
                    "nodes": [
                        {"name": "begin", "type": "start"},
                        {"name": "approval", "type": "wait", "event": "approved", "timeout_s": 3_600},
                        {"name": "review", "type": "map", "items": "files", "function": "review", "into": "reviews"},
                        {"name": "finish", "type": "end"},
                    ],
                    "edges": [
                        {"source": "begin", "target": "approval"},
                        {"source": "approval", "target": "review"},
                        {"source": "review", "target": "finish"},
                    ],
                },
            ]
        }
    )

    name: GraphName = Field(description="For people; creating a graph of the same name makes its next version.")
    start_node: Label | None = Field(
        default=None, description="Where runs start; without it, at the node of type start."
    )
    nodes: list[NodeDocument] = Field(description="Its steps.")
    edges: list[EdgeDocument] = Field(
        default_factory=list, description="Its ways; at a join, branches merge in this order."
    )
    max_steps: int = Field(default=DEFAULT_MAX_STEPS, ge=1, description="Most node runs that a run may take.")
    timeout_s: float | None = Field(default=None, gt=0, description="Longest that a run may take, in seconds.")
    isolation: Annotated[Isolation, Field(strict=False)] = Field(
        default=Isolation.NODE,
        description="`node`: every attempt gets a sandbox of its own. `run`: the attempts of one run share sandboxes, "
        "one after another, wiped in between.",
    )
    runtime: Label | None = Field(
        default=None, description="OCI runtime of the sandboxes, one that the deployment allows; without it its own."
    )
    on_error: Annotated[OnError, Field(strict=False)] = Field(
        default=OnError.FAIL_FAST,
        description="What a node's failure does for which no edge leaves it. `fail_fast`: the run fails at once. "
        "`finish`: what does not depend on that node runs to its end, and then the run fails.",
    )
    state: Reducers = Field(
        default_factory=dict,
        description="Keys of the state that parallel branches may change without a conflict, each with its reducer.",
    )
    max_concurrent_runs: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Most runs of this graph, all its versions together, that are under way at the same time; further "
        "ones wait for their turn.",
    )


def parse_graph(document: object, settings: Settings) -> Graph:
    """Read a graph's document; whether the graph makes sense is for the model and the catalog to say.

    Raises:
        InvalidInput: Everything that is wrong with its fields.
    """
    _bound(document, settings)
    read = parse(GraphDocument, document)
    # A deployment may allow fewer steps than graphs take by default.
    steps = read.max_steps if "max_steps" in read.model_fields_set else min(read.max_steps, settings.max_steps)
    return Graph(
        name=read.name,
        nodes=tuple(_node(node) for node in read.nodes),
        edges=tuple(_edge(edge) for edge in read.edges),
        start_node=read.start_node,
        max_steps=steps,
        timeout_s=read.timeout_s,
        isolation=read.isolation,
        runtime=read.runtime,
        on_error=read.on_error,
        reducers=reducers(read.state),
        max_concurrent_runs=read.max_concurrent_runs,
    )


def _bound(document: object, settings: Settings) -> None:
    """Refuse what is too long before each of its parts is looked at."""
    if not isinstance(document, dict):
        return
    for path, limit in (("nodes", settings.max_nodes), ("edges", settings.max_edges)):
        value = document.get(path)
        if isinstance(value, list) and len(value) > limit:
            message = f"There are {len(value)} {path}; a graph may have {limit}."
            raise InvalidInput.at(path, f"too_many_{path}", message)
    for place, _, container in containers(document):
        refuse_crowd(container, place)


def _node(node: NodeDocument) -> Node:
    retry = node.retry
    return Node(
        name=node.name,
        type=node.type,
        function=node.function,
        condition=_condition(node.condition),
        max_iterations=node.max_iterations,
        on_max=node.on_max,
        join=inputs_of(node.join),
        limits=Limits(**node.limits.model_dump()),
        retry=Retry(
            max_attempts=retry.max_attempts,
            initial_s=retry.initial_s,
            factor=retry.factor,
            max_s=retry.max_s,
            jitter=retry.jitter,
            on=frozenset(AttemptStatus(status) for status in retry.on),
        ),
        items=node.items,
        into=node.into,
        max_concurrency=node.max_concurrency,
        event=node.event,
        timeout_s=node.timeout_s,
        graph_id=node.graph_id,
        inputs=pairs(node.inputs),
        outputs=pairs(node.outputs),
    )


def _edge(edge: EdgeDocument) -> Edge:
    on = frozenset(map(Outcome, edge.on))
    return Edge(edge.source, edge.target, _condition(edge.condition), default=edge.default, on=on)


def _condition(condition: str | FunctionCondition | None) -> Condition | None:
    if condition is None:
        return None
    return Condition(expression=condition) if isinstance(condition, str) else Condition(function=condition.function)
