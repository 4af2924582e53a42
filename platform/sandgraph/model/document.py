"""A graph as the JSON document that is stored: the form of POST /graph/create, every field spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

from sandgraph.model.graph import (
    DEFAULT_CONCURRENCY,
    ON_SUCCESS,
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
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import Retry
from sandgraph.model.run import AttemptStatus
from sandgraph.model.state import Json


def to_document(graph: Graph) -> dict[str, Json]:
    """Return the document of a graph."""
    return {
        "name": graph.name,
        "start_node": graph.start_node,
        "max_steps": graph.max_steps,
        "timeout_s": graph.timeout_s,
        "isolation": graph.isolation.value,
        "runtime": graph.runtime,
        "on_error": graph.on_error.value,
        "state": {key: {"reducer": reducer.value} for key, reducer in graph.reducers},
        "max_concurrent_runs": graph.max_concurrent_runs,
        "nodes": [_node_document(node) for node in graph.nodes],
        "edges": [
            {
                "source": edge.source,
                "target": edge.target,
                "condition": _condition_document(edge.condition),
                "default": edge.default,
                "on": [outcome.value for outcome in Outcome if outcome in edge.on],
            }
            for edge in graph.edges
        ],
    }


def from_document(document: Mapping[str, Json]) -> Graph:
    """Return the graph of a document that `to_document` wrote, in this release or in one before it."""
    nodes = cast("list[dict[str, Json]]", document["nodes"])
    edges = cast("list[dict[str, Json]]", document["edges"])
    return Graph(
        name=cast("str", document["name"]),
        nodes=tuple(_node(node) for node in nodes),
        edges=tuple(
            Edge(
                cast("str", edge["source"]),
                cast("str", edge["target"]),
                _condition(edge["condition"]),
                default=cast("bool", edge["default"]),
                on=frozenset(map(Outcome, cast("list[str]", edge.get("on", list(ON_SUCCESS))))),
            )
            for edge in edges
        ),
        start_node=cast("str | None", document["start_node"]),
        max_steps=cast("int", document["max_steps"]),
        timeout_s=cast("float | None", document["timeout_s"]),
        isolation=Isolation(cast("str", document.get("isolation", Isolation.NODE))),
        runtime=cast("str | None", document.get("runtime")),
        on_error=OnError(cast("str", document.get("on_error", OnError.FAIL_FAST))),
        reducers=tuple(
            (key, Reducer(said["reducer"]))
            for key, said in cast("dict[str, dict[str, str]]", document.get("state", {})).items()
        ),
        max_concurrent_runs=cast("int | None", document.get("max_concurrent_runs")),
    )


def inputs_of(join: str | int) -> int | None:
    """Return how many inputs a node waits for, whose document says ``all``, ``any`` or a number."""
    if isinstance(join, int):
        return join
    return 1 if join == "any" else None


def _node_document(node: Node) -> dict[str, Json]:
    return {
        "name": node.name,
        "type": node.type.value,
        "function": node.function,
        "condition": _condition_document(node.condition),
        "max_iterations": node.max_iterations,
        "on_max": node.on_max.value,
        "join": {None: "all", 1: "any"}.get(node.join, node.join),
        "limits": cast("dict[str, Json]", asdict(node.limits)),
        "retry": {
            "max_attempts": node.retry.max_attempts,
            "initial_s": node.retry.initial_s,
            "factor": node.retry.factor,
            "max_s": node.retry.max_s,
            "jitter": node.retry.jitter,
            "on": [status.value for status in sorted(node.retry.on)],
        },
        "items": node.items,
        "into": node.into,
        "max_concurrency": node.max_concurrency,
        "event": node.event,
        "timeout_s": node.timeout_s,
        "graph_id": node.graph_id,
        "inputs": None if node.inputs is None else dict(node.inputs),
        "outputs": None if node.outputs is None else dict(node.outputs),
    }


def _node(node: Mapping[str, Json]) -> Node:
    retry = cast("dict[str, Json]", node["retry"])
    on = frozenset(AttemptStatus(status) for status in cast("list[str]", retry["on"]))
    return Node(
        name=cast("str", node["name"]),
        type=NodeType(cast("str", node["type"])),
        function=cast("str | None", node["function"]),
        condition=_condition(node["condition"]),
        max_iterations=cast("int | None", node["max_iterations"]),
        on_max=OnMax(cast("str", node["on_max"])),
        limits=Limits(**cast("dict[str, float]", node["limits"])),  # type: ignore[arg-type]
        retry=Retry(**{**retry, "on": on}),  # type: ignore[arg-type]
        join=inputs_of(cast("str | int", node.get("join", "all"))),
        items=cast("str | None", node.get("items")),
        into=cast("str | None", node.get("into")),
        max_concurrency=cast("int", node.get("max_concurrency", DEFAULT_CONCURRENCY)),
        event=cast("str | None", node.get("event")),
        timeout_s=cast("float | None", node.get("timeout_s")),
        graph_id=cast("str | None", node.get("graph_id")),
        inputs=_pairs(node.get("inputs")),
        outputs=_pairs(node.get("outputs")),
    )


def _pairs(document: Json) -> tuple[tuple[str, str], ...] | None:
    return None if document is None else tuple(cast("dict[str, str]", document).items())


def _condition_document(condition: Condition | None) -> Json:
    if condition is None:
        return None
    return condition.expression if condition.expression is not None else {"function": condition.function}


def _condition(document: Json) -> Condition | None:
    if isinstance(document, dict):
        return Condition(function=cast("str", document["function"]))
    return Condition(expression=cast("str", document)) if document is not None else None
