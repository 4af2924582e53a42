"""What a graph's document says is in the graph, is shown again, and can still be read when it was stored long ago."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandgraph.api.schemas.graph import GraphDocument, NodeDocument, parse_graph
from sandgraph.model.document import from_document, to_document
from sandgraph.model.graph import DEFAULT_CONCURRENCY, Graph, Node, NodeType
from sandgraph.model.reducers import Reducer
from sandgraph.settings import Settings, load_settings

SETTINGS: Settings = load_settings()


def read(*nodes: dict[str, Any], **fields: Any) -> Graph:  # noqa: ANN401 - a document's fields
    return parse_graph({"name": "g", "nodes": list(nodes), **fields}, SETTINGS)


NODES = {
    "a map": (
        {"name": "n", "type": "map", "function": "f", "items": "files", "into": "done", "max_concurrency": 1000},
        Node("n", NodeType.MAP, "f", items="files", into="done", max_concurrency=1000),
    ),
    "a map with its time": (
        {"name": "n", "type": "map", "function": "f", "items": "files", "into": "done", "timeout_s": 60},
        Node("n", NodeType.MAP, "f", items="files", into="done", timeout_s=60),
    ),
    "a wait for an event": (
        {"name": "n", "type": "wait", "event": "approved", "timeout_s": 0.5, "into": "approval"},
        Node("n", NodeType.WAIT, event="approved", timeout_s=0.5, into="approval"),
    ),
    "a timer": ({"name": "n", "type": "wait", "timeout_s": 31_536_000}, Node("n", NodeType.WAIT, timeout_s=31_536_000)),
    "a subgraph": (
        {"name": "n", "type": "subgraph", "graph_id": "graph_1"},
        Node("n", NodeType.SUBGRAPH, graph_id="graph_1"),
    ),
    "a subgraph with keys of other names": (
        {"name": "n", "type": "subgraph", "graph_id": "graph_1", "inputs": {"x": "y"}, "outputs": {"z": "x", "a": "x"}},
        Node("n", NodeType.SUBGRAPH, graph_id="graph_1", inputs=(("x", "y"),), outputs=(("z", "x"), ("a", "x"))),
    ),
    "a subgraph with keys of the same names": (
        {"name": "n", "type": "subgraph", "graph_id": "graph_1", "inputs": ["b", "a"], "outputs": []},
        Node("n", NodeType.SUBGRAPH, graph_id="graph_1", inputs=(("b", "b"), ("a", "a")), outputs=()),
    ),
    "a subgraph with more keys than any object has fields": (
        {"name": "n", "type": "subgraph", "graph_id": "graph_1", "inputs": {f"k{i}": "k" for i in range(100)}},
        Node("n", NodeType.SUBGRAPH, graph_id="graph_1", inputs=tuple((f"k{i}", "k") for i in range(100))),
    ),
}


@pytest.mark.parametrize(("document", "node"), NODES.values(), ids=NODES.keys())
def test_a_nodes_document_is_the_node(document: dict[str, Any], node: Node) -> None:
    assert read(document).nodes == (node,)


@pytest.mark.parametrize(("document", "node"), NODES.values(), ids=NODES.keys())
def test_what_is_shown_of_a_node_is_what_was_written(document: dict[str, Any], node: Node) -> None:
    graph = read(document)
    shown = json.loads(json.dumps(to_document(graph)))
    assert from_document(shown).nodes == (node,)
    assert parse_graph(shown, SETTINGS) == graph
    for name in ("inputs", "outputs"):
        if isinstance(document.get(name), list):
            document = {**document, name: {key: key for key in document[name]}}
    assert shown["nodes"][0].items() >= document.items()


@pytest.mark.parametrize("reducer", Reducer)
def test_a_key_may_have_a_reducer(reducer: Reducer) -> None:
    said = {"findings": {"reducer": reducer.value}, "inputs": {"reducer": "add"}}
    graph = read(state=said, max_concurrent_runs=10_000)
    assert graph.reducers == (("findings", reducer), ("inputs", Reducer.ADD))
    assert graph.max_concurrent_runs == 10_000
    shown = to_document(graph)
    assert (shown["state"], shown["max_concurrent_runs"]) == (said, 10_000)
    assert from_document(shown) == graph == parse_graph(shown, SETTINGS)


def test_nothing_is_said_by_default() -> None:
    graph = read({"name": "n"})
    assert graph == Graph("g", (Node("n"),))
    assert graph.nodes[0].max_concurrency == DEFAULT_CONCURRENCY
    shown = to_document(graph)
    assert (shown["state"], shown["max_concurrent_runs"]) == ({}, None)


def test_a_document_of_a_release_before_is_read() -> None:
    graph = read({"name": "n", "function": "f"})
    new = {"items", "into", "max_concurrency", "event", "timeout_s", "graph_id", "inputs", "outputs"}
    shown: dict[str, Any] = json.loads(json.dumps(to_document(graph)))
    shown["nodes"] = [{key: value for key, value in node.items() if key not in new} for node in shown["nodes"]]
    del shown["state"], shown["max_concurrent_runs"]
    assert from_document(shown) == graph


@pytest.mark.parametrize("model", [GraphDocument, NodeDocument])
def test_every_field_is_spelled_out_in_what_is_shown(model: type[GraphDocument | NodeDocument]) -> None:
    shown: dict[str, Any] = json.loads(json.dumps(to_document(read({"name": "n"}))))
    assert set(shown if model is GraphDocument else shown["nodes"][0]) == set(model.model_fields)
