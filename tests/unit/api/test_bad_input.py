"""Everything that is refused: with which status and code, at which path, and that nothing of it is kept."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from api_world import World
from starlette.testclient import TestClient

Document = dict[str, object]

DOUBLE = "def double(state):\n    return {'output': state.get('input') * 2}\n"


def graph(*, nodes: object = None, edges: object = None, **more: object) -> Document:
    document: Document = {
        "name": "g",
        "nodes": [{"name": "s", "type": "start"}, {"name": "e", "type": "end"}] if nodes is None else nodes,
        "edges": [{"source": "s", "target": "e"}] if edges is None else edges,
    }
    return {**document, **more}


def with_node(**node: object) -> Document:
    nodes = [
        {"name": "s", "type": "start"},
        {"name": "work", "function": "double", **node},
        {"name": "e", "type": "end"},
    ]
    return graph(nodes=nodes, edges=[{"source": "s", "target": "work"}, {"source": "work", "target": "e"}])


def with_edge(**edge: object) -> Document:
    return graph(edges=[{"source": "s", "target": "e", **edge}])


def run(state: object, **more: object) -> Document:
    return {"graph_id": "gr_1", "initial_state": state, **more}


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


class Case(NamedTuple):
    path: str
    body: object
    field: str
    code: str
    status: int = 422


NODES, TOOLS, GRAPH, RUN = "/nodes/register", "/tools/register", "/graph/create", "/graph/run"
EVENT, FORK, RESUME, REPLAY = (f"/graph/{what}/run_1" for what in ("event", "fork", "resume", "replay"))

CASES = {
    "code that does not compile": Case(NODES, {"name": "f", "code": "def f(:\n"}, "code", "syntax_error"),
    "a name the code does not define": Case(NODES, {"name": "f", "code": "def g(): 0"}, "code", "name_not_defined"),
    "a tool that does not compile": Case(TOOLS, {"name": "f", "code": "def f(:\n"}, "code", "syntax_error"),
    "empty code": Case(NODES, {"name": "f", "code": ""}, "code", "too_short"),
    "code that is no string": Case(NODES, {"name": "f", "code": ["def f(): 0"]}, "code", "wrong_type"),
    "no code": Case(NODES, {"name": "f"}, "code", "missing_field"),
    "an unknown field of a function": Case(
        NODES, {"name": "f", "code": DOUBLE, "colour": 1}, "colour", "unknown_field"
    ),
    "a description of a function": Case(
        NODES, {"name": "f", "code": DOUBLE, "description": "x"}, "description", "unknown_field"
    ),
    "a name that is no identifier": Case(NODES, {"name": "a b", "code": DOUBLE}, "name", "invalid_name"),
    "a name with a newline at its end": Case(NODES, {"name": "double\n", "code": DOUBLE}, "name", "invalid_name"),
    "a name that begins with a digit": Case(NODES, {"name": "1st", "code": DOUBLE}, "name", "invalid_name"),
    "a keyword as a name": Case(NODES, {"name": "class", "code": DOUBLE}, "name", "invalid_name"),
    "a name that is too long": Case(NODES, {"name": "f" * 129, "code": DOUBLE}, "name", "too_long"),
    "an empty name": Case(TOOLS, {"name": "", "code": DOUBLE}, "name", "too_short"),
    "a description that is too long": Case(
        TOOLS, {"name": "f", "code": DOUBLE, "description": "x" * 2_001}, "description", "too_long"
    ),
    "a body that is no object": Case(NODES, [1], "", "wrong_type"),
    "a graph that is null": Case(GRAPH, None, "", "wrong_type"),
    "a graph without name": Case(GRAPH, {"nodes": []}, "name", "missing_field"),
    "a graph's name with a control character": Case(GRAPH, graph(name="a\u0007"), "name", "control_character"),
    "a graph's name that is too long": Case(GRAPH, graph(name="g" * 201), "name", "too_long"),
    "no nodes": Case(GRAPH, graph(nodes=[], edges=[]), "nodes", "no_nodes"),
    "nodes that are no array": Case(GRAPH, graph(nodes={}), "nodes", "wrong_type"),
    "a node that is no object": Case(GRAPH, graph(nodes=["s"]), "nodes[0]", "wrong_type"),
    "too many nodes": Case(GRAPH, graph(nodes=[{"name": str(i)} for i in range(6)]), "nodes", "too_many_nodes"),
    "too many edges": Case(GRAPH, graph(edges=[{}] * 7), "edges", "too_many_edges"),
    "an unknown function": Case(GRAPH, with_node(function="nowhere"), "nodes[1].function", "unknown_function"),
    "an unknown function as a condition": Case(
        GRAPH, with_edge(condition={"function": "nowhere"}), "edges[0].condition.function", "unknown_function"
    ),
    "an unknown node type": Case(GRAPH, with_node(type="robot"), "nodes[1].type", "unknown_node_type"),
    "a node type that is no string": Case(GRAPH, with_node(type=5), "nodes[1].type", "unknown_node_type"),
    "an unknown field of a graph": Case(GRAPH, graph(colour="red"), "colour", "unknown_field"),
    "an unknown field of a node": Case(GRAPH, with_node(colour="red"), "nodes[1].colour", "unknown_field"),
    "an unknown field of an edge": Case(GRAPH, with_edge(colour="red"), "edges[0].colour", "unknown_field"),
    "an unknown field of limits": Case(GRAPH, with_node(limits={"gpus": 1}), "nodes[1].limits.gpus", "unknown_field"),
    "an unknown field of retry": Case(GRAPH, with_node(retry={"when": 1}), "nodes[1].retry.when", "unknown_field"),
    "an unknown field of a condition": Case(
        GRAPH, with_edge(condition={"function": "double", "x": 1}), "edges[0].condition.x", "unknown_field"
    ),
    "duplicate node names": Case(
        GRAPH, graph(nodes=[{"name": "s", "type": "start"}, {"name": "s"}]), "nodes[1].name", "duplicate_node"
    ),
    "a node name that is too long": Case(GRAPH, with_node(name="n" * 129), "nodes[1].name", "too_long"),
    "a node name with a control character": Case(GRAPH, with_node(name="a\nb"), "nodes[1].name", "control_character"),
    "an edge to nowhere": Case(GRAPH, with_edge(target="nowhere"), "edges[0].target", "unknown_node"),
    "an edge from nowhere": Case(GRAPH, with_edge(source="nowhere"), "edges[0].source", "unknown_node"),
    "an edge without target": Case(GRAPH, graph(edges=[{"source": "s"}]), "edges[0].target", "missing_field"),
    "no start": Case(GRAPH, graph(nodes=[{"name": "s"}, {"name": "e"}]), "nodes", "no_start"),
    "two starts": Case(
        GRAPH,
        graph(nodes=[{"name": "s", "type": "start"}, {"name": "e", "type": "start"}]),
        "nodes[1].type",
        "two_starts",
    ),
    "an unknown start_node": Case(GRAPH, graph(start_node="nowhere"), "start_node", "unknown_node"),
    "an unreachable node": Case(GRAPH, graph(edges=[]), "nodes[1]", "unreachable_node"),
    "a loop without bound": Case(
        GRAPH, with_node(type="loop", condition="state.n < 5"), "nodes[1].max_iterations", "unbounded_loop"
    ),
    "a bound of none": Case(GRAPH, with_node(type="loop", max_iterations=0), "nodes[1].max_iterations", "out_of_range"),
    "a bound that is a string": Case(
        GRAPH, with_node(type="loop", max_iterations="5"), "nodes[1].max_iterations", "wrong_type"
    ),
    "a bound that is true": Case(
        GRAPH, with_node(type="loop", max_iterations=True), "nodes[1].max_iterations", "wrong_type"
    ),
    "a bound that is a fraction": Case(
        GRAPH, with_node(type="loop", max_iterations=5.5), "nodes[1].max_iterations", "wrong_type"
    ),
    "an unknown on_max": Case(GRAPH, with_node(on_max="explode"), "nodes[1].on_max", "unknown_value"),
    "an unknown join": Case(GRAPH, with_node(join="first"), "nodes[1].join", "unknown_value"),
    "a join of none": Case(GRAPH, with_node(join=0), "nodes[1].join", "out_of_range"),
    "a join of more than there are": Case(GRAPH, with_node(join=9), "nodes[1].join", "too_few_inputs"),
    "a join that is true": Case(GRAPH, with_node(join=True), "nodes[1].join", "wrong_type"),
    "a join of half an input": Case(GRAPH, with_node(join=0.5), "nodes[1].join", "wrong_type"),
    "an unknown isolation": Case(GRAPH, graph(isolation="graph"), "isolation", "unknown_value"),
    "an unknown on_error": Case(GRAPH, graph(on_error="ignore"), "on_error", "unknown_value"),
    "an isolation of none": Case(GRAPH, graph(isolation=None), "isolation", "unknown_value"),
    "a runtime that the deployment does not allow": Case(
        GRAPH, graph(runtime="crun"), "runtime", "runtime_not_allowed"
    ),
    "a runtime without name": Case(GRAPH, graph(runtime=""), "runtime", "too_short"),
    "a runtime that is a list": Case(GRAPH, graph(runtime=["runc"]), "runtime", "wrong_type"),
    "a condition that does not compile": Case(
        GRAPH, with_edge(condition="state. >= 3"), "edges[0].condition", "syntax_error"
    ),
    "an empty condition": Case(GRAPH, with_edge(condition=""), "edges[0].condition", "too_short"),
    "a condition that is a number": Case(GRAPH, with_edge(condition=5), "edges[0].condition", "wrong_type"),
    "a condition without function": Case(
        GRAPH, with_edge(condition={}), "edges[0].condition.function", "missing_field"
    ),
    "an edge on nothing": Case(GRAPH, with_edge(on=[]), "edges[0].on", "too_short"),
    "an edge on a word": Case(GRAPH, with_edge(on="failed"), "edges[0].on", "wrong_type"),
    "an edge on an unknown outcome": Case(GRAPH, with_edge(on=["oom"]), "edges[0].on[0]", "unknown_value"),
    "a condition on failure": Case(
        GRAPH, with_edge(on=["failed"], condition="state.n"), "edges[0].on", "on_with_condition"
    ),
    "a default on failure": Case(GRAPH, with_edge(on=["failed"], default=True), "edges[0].on", "on_with_default"),
    "a default that is a string": Case(GRAPH, with_edge(default="true"), "edges[0].default", "wrong_type"),
    "too much memory": Case(
        GRAPH, with_node(limits={"memory_mb": 100_000}), "nodes[1].limits.memory_mb", "limit_above_ceiling"
    ),
    "too little memory": Case(
        GRAPH, with_node(limits={"memory_mb": 1}), "nodes[1].limits.memory_mb", "limit_below_floor"
    ),
    "memory that is a fraction": Case(
        GRAPH, with_node(limits={"memory_mb": 64.5}), "nodes[1].limits.memory_mb", "wrong_type"
    ),
    "cpus that are a string": Case(GRAPH, with_node(limits={"cpus": "1"}), "nodes[1].limits.cpus", "wrong_type"),
    "cpus beyond all floats": Case(
        GRAPH, with_node(limits={"cpus": 10**400}), "nodes[1].limits.cpus", "limit_above_ceiling"
    ),
    "no steps": Case(GRAPH, graph(max_steps=0), "max_steps", "out_of_range"),
    "no time": Case(GRAPH, graph(timeout_s=0), "timeout_s", "out_of_range"),
    "too many attempts": Case(
        GRAPH, with_node(retry={"max_attempts": 101}), "nodes[1].retry.max_attempts", "out_of_range"
    ),
    "a factor that shrinks": Case(GRAPH, with_node(retry={"factor": 0.5}), "nodes[1].retry.factor", "out_of_range"),
    "a retry of what worked": Case(
        GRAPH, with_node(retry={"on": ["error", "succeeded"]}), "nodes[1].retry.on[1]", "unknown_value"
    ),
    "an unknown reducer": Case(GRAPH, graph(state={"n": {"reducer": "average"}}), "state.n.reducer", "unknown_value"),
    "a key without reducer": Case(GRAPH, graph(state={"n": {}}), "state.n.reducer", "missing_field"),
    "a reducer by itself": Case(GRAPH, graph(state={"n": "add"}), "state.n", "wrong_type"),
    "an unknown field of a key": Case(
        GRAPH, graph(state={"n": {"reducer": "add", "initial": 0}}), "state.n.initial", "unknown_field"
    ),
    "reducers that are a list": Case(GRAPH, graph(state=["n"]), "state", "wrong_type"),
    "a reducer of a key without name": Case(GRAPH, graph(state={"": {"reducer": "add"}}), "state", "too_short"),
    "a reducer of an endless key": Case(GRAPH, graph(state={"k" * 9_000: {"reducer": "add"}}), "state", "too_long"),
    "too many reducers": Case(
        GRAPH, graph(state={f"k{i}": {"reducer": "add"} for i in range(1_001)}), "state", "too_many_keys"
    ),
    "no concurrent runs": Case(GRAPH, graph(max_concurrent_runs=0), "max_concurrent_runs", "out_of_range"),
    "too many concurrent runs": Case(GRAPH, graph(max_concurrent_runs=10_001), "max_concurrent_runs", "out_of_range"),
    "half a concurrent run": Case(GRAPH, graph(max_concurrent_runs=0.5), "max_concurrent_runs", "wrong_type"),
    "items that are a list": Case(GRAPH, with_node(type="map", items=["a"]), "nodes[1].items", "wrong_type"),
    "items of no key": Case(GRAPH, with_node(type="map", items=""), "nodes[1].items", "too_short"),
    "results into an endless key": Case(GRAPH, with_node(type="map", into="k" * 513), "nodes[1].into", "too_long"),
    "no items at a time": Case(
        GRAPH, with_node(type="map", max_concurrency=0), "nodes[1].max_concurrency", "out_of_range"
    ),
    "too many items at a time": Case(
        GRAPH, with_node(type="map", max_concurrency=1_001), "nodes[1].max_concurrency", "out_of_range"
    ),
    "an event without name": Case(GRAPH, with_node(type="wait", event=""), "nodes[1].event", "too_short"),
    "an event with a control character": Case(
        GRAPH, with_node(type="wait", event="a\tb"), "nodes[1].event", "control_character"
    ),
    "a wait of no time": Case(GRAPH, with_node(type="wait", timeout_s=0), "nodes[1].timeout_s", "out_of_range"),
    "a wait of ages": Case(GRAPH, with_node(type="wait", timeout_s=1e12), "nodes[1].timeout_s", "out_of_range"),
    "a wait of a word": Case(GRAPH, with_node(type="wait", timeout_s="1h"), "nodes[1].timeout_s", "wrong_type"),
    "a subgraph that is a document": Case(
        GRAPH, with_node(type="subgraph", graph_id=graph()), "nodes[1].graph_id", "wrong_type"
    ),
    "inputs that are a word": Case(GRAPH, with_node(type="subgraph", inputs="a"), "nodes[1].inputs", "wrong_type"),
    "an input that is a number": Case(
        GRAPH, with_node(type="subgraph", inputs={"a": 5}), "nodes[1].inputs.a", "wrong_type"
    ),
    "a listed input that is a number": Case(
        GRAPH, with_node(type="subgraph", inputs=["a", 5]), "nodes[1].inputs[1]", "wrong_type"
    ),
    "an input twice": Case(GRAPH, with_node(type="subgraph", inputs=["a", "a"]), "nodes[1].inputs", "duplicate_name"),
    "an output from no key": Case(
        GRAPH, with_node(type="subgraph", outputs={"a": ""}), "nodes[1].outputs.a", "too_short"
    ),
    "an output to no key": Case(GRAPH, with_node(type="subgraph", outputs={"": "a"}), "nodes[1].outputs", "too_short"),
    "too many inputs": Case(
        GRAPH, with_node(inputs={f"k{i}": "k" for i in range(101)}), "nodes[1].inputs", "too_many_keys"
    ),
    "too many listed outputs": Case(
        GRAPH, with_node(outputs=[f"k{i}" for i in range(101)]), "nodes[1].outputs", "too_many_keys"
    ),
    "a state that is a list": Case(RUN, run([]), "initial_state", "wrong_type"),
    "a state that is null": Case(RUN, run(None), "initial_state", "wrong_type"),
    "an unknown field of a run": Case(RUN, run({}, colour=1), "colour", "unknown_field"),
    "a run of nothing": Case(RUN, {"initial_state": {}}, "graph_id", "missing_field"),
    "a run of a number": Case(RUN, {"graph_id": 1}, "graph_id", "wrong_type"),
    "a state that is too deep": Case(
        RUN, run({"a": {"b": nested(9)}}), "initial_state.a.b[0]" + "[0]" * 6, "state_too_deep"
    ),
    "a state of objects as deep as is parsed": Case(
        RUN,
        '{"graph_id": "gr_1", "initial_state": {"b":' + '{"a":' * 515 + "1" + "}" * 517,
        "initial_state.b" + ".a" * 8,
        "state_too_deep",
    ),
    "a large body": Case(RUN, run({"long": "x" * 40_000, "a": [2**63]}), "initial_state.a[0]", "integer_out_of_range"),
    "a state with too many values": Case(RUN, run({"k": [[1]] * 500}), "initial_state", "too_many_values"),
    "a state with too many keys": Case(RUN, run({f"k{i}": 1 for i in range(51)}), "initial_state", "too_many_keys"),
    "an integer that is too large": Case(
        RUN, run({"a": [1, {"b": 2**63}]}), "initial_state.a[1].b", "integer_out_of_range"
    ),
    "an integer that is too small": Case(RUN, run({"a": -(2**63) - 1}), "initial_state.a", "integer_out_of_range"),
    "an integer beyond all digits": Case(
        RUN, json.dumps(run({"a": 9}))[:-2] + "9" * 5_000 + "}}", "initial_state.a", "integer_out_of_range"
    ),
    "a number beyond all floats": Case(
        RUN, '{"graph_id": "gr_1", "initial_state": {"a": [1e999]}}', "initial_state.a[0]", "number_not_finite"
    ),
    "an unknown graph": Case(RUN, {"graph_id": "gr_nope"}, "graph_id", "graph_not_found", 404),
    "an unknown graph, not waiting": Case(
        "/graph/run_async", {"graph_id": "gr_nope"}, "graph_id", "graph_not_found", 404
    ),
    "a graph id that is none": Case(RUN, {"graph_id": "../\u00e9"}, "graph_id", "graph_not_found", 404),
    "an event for nobody": Case(EVENT, {"payload": 1}, "name", "missing_field"),
    "an event of an empty name": Case(EVENT, {"name": ""}, "name", "too_short"),
    "an event of an endless name": Case(EVENT, {"name": "n" * 129}, "name", "too_long"),
    "an event with an empty id": Case(EVENT, {"name": "n", "event_id": ""}, "event_id", "too_short"),
    "an event with an endless id": Case(EVENT, {"name": "n", "event_id": "i" * 129}, "event_id", "too_long"),
    "an event whose id is a number": Case(EVENT, {"name": "n", "event_id": 5}, "event_id", "wrong_type"),
    "an unknown field of an event": Case(EVENT, {"name": "n", "data": 1}, "data", "unknown_field"),
    "a payload that is too deep": Case(
        EVENT, {"name": "n", "payload": nested(9)}, "payload" + "[0]" * 8, "state_too_deep"
    ),
    "a payload with an integer that is too large": Case(
        EVENT, {"name": "n", "payload": {"a": [2**63]}}, "payload.a[0]", "integer_out_of_range"
    ),
    "a payload that is too large an integer": Case(
        EVENT, {"name": "n", "payload": 2**63}, "payload", "integer_out_of_range"
    ),
    "a payload beyond all floats": Case(EVENT, '{"name": "n", "payload": 1e999}', "payload", "number_not_finite"),
    "a payload with too many values": Case(EVENT, {"name": "n", "payload": [1] * 1_000}, "payload", "too_many_values"),
    "no event": Case(EVENT, "", "", "empty_body", 400),
    "a fork of nowhere": Case(FORK, {}, "at", "missing_field"),
    "a fork before the first": Case(FORK, {"at": -1}, "at", "out_of_range"),
    "a fork beyond all": Case(FORK, {"at": 2**63}, "at", "out_of_range"),
    "a fork at a word": Case(FORK, {"at": "last"}, "at", "wrong_type"),
    "a fork with a list for a state": Case(FORK, {"at": 0, "state": []}, "state", "wrong_type"),
    "a fork with too many keys": Case(
        FORK, {"at": 0, "state": {f"k{i}": 1 for i in range(51)}}, "state", "too_many_keys"
    ),
    "a fork with a state that is too deep": Case(
        FORK, {"at": 0, "state": {"a": nested(9)}}, "state.a" + "[0]" * 8, "state_too_deep"
    ),
    "a fork with an integer that is too large": Case(
        FORK, {"at": 0, "state": {"a": 2**63}}, "state.a", "integer_out_of_range"
    ),
    "a fork that deletes a word": Case(FORK, {"at": 0, "delete": "a"}, "delete", "wrong_type"),
    "a fork that deletes a number": Case(FORK, {"at": 0, "delete": ["a", 1]}, "delete[1]", "wrong_type"),
    "a fork that deletes a key twice": Case(FORK, {"at": 0, "delete": ["a", "a"]}, "delete[1]", "duplicate_name"),
    "a fork that deletes what it sets": Case(
        FORK, {"at": 0, "state": {"a": 1}, "delete": ["b", "a"]}, "delete[1]", "duplicate_name"
    ),
    "a fork with unknown functions": Case(FORK, {"at": 0, "functions": "newest"}, "functions", "unknown_value"),
    "an unknown field of a fork": Case(FORK, {"at": 0, "initial_state": {}}, "initial_state", "unknown_field"),
    "a resumption with unknown functions": Case(RESUME, {"functions": "v2"}, "functions", "unknown_value"),
    "an unknown field of a resumption": Case(RESUME, {"at": 1}, "at", "unknown_field"),
    "a resumption that is a list": Case(RESUME, [], "", "wrong_type"),
    "a replay of nothing": Case(REPLAY, {}, "node", "missing_field"),
    "a replay of no iteration": Case(REPLAY, {"node": "n", "iteration": 0}, "iteration", "out_of_range"),
    "a replay of no attempt": Case(REPLAY, {"node": "n", "attempt": 0}, "attempt", "out_of_range"),
    "a replay of half an attempt": Case(REPLAY, {"node": "n", "attempt": 1.5}, "attempt", "wrong_type"),
    "a replay in no scope": Case(REPLAY, {"node": "n", "scope": None}, "scope", "wrong_type"),
    "a replay in an endless scope": Case(REPLAY, {"node": "n", "scope": "s" * 8_193}, "scope", "too_long"),
    "an unknown field of a replay": Case(REPLAY, {"node": "n", "code": "x"}, "code", "unknown_field"),
    "malformed JSON": Case(NODES, '{"name": "f",\n "code": }', "", "invalid_json", 400),
    "JSON that breaks off": Case(NODES, '{"name": "f', "", "invalid_json", 400),
    "two documents": Case(NODES, "{} {}", "", "invalid_json", 400),
    "an unknown field with an endless name": Case(
        NODES, {"name": "f", "code": DOUBLE, "x" * 9_000: 1}, "x" * 128 + "…", "unknown_field"
    ),
    "an endless key twice": Case(
        NODES, f'{{"{"x" * 9_000}": 1, "{"x" * 9_000}": 2}}', "x" * 128 + "…", "duplicate_key", 400
    ),
    "NaN": Case(RUN, '{"graph_id": "gr_1", "initial_state": {"NaN": NaN}}', "", "invalid_json", 400),
    "minus infinity": Case(RUN, '{"graph_id": "gr_1", "initial_state": {"a": -Infinity}}', "", "invalid_json", 400),
    "an empty body": Case(NODES, "", "", "empty_body", 400),
    "a blank body": Case(NODES, " \n", "", "empty_body", 400),
    "a body that is not UTF-8": Case(NODES, b'{"name": "\xff"}', "", "invalid_utf8", 400),
    "a body in UTF-16": Case(NODES, '{"name": "f"}'.encode("utf-16"), "", "invalid_utf8", 400),
    "a key twice": Case(NODES, '{"name": "f", "code": "x", "name": "g"}', "name", "duplicate_key", 400),
    "a key twice in a state": Case(
        RUN,
        '{"graph_id": "gr_1", "initial_state": {"a": [{"b": {}}, {"b": {"c": 1, "c": 2}}]}}',
        "initial_state.a[1].b.c",
        "duplicate_key",
        400,
    ),
    "a key twice in what is dropped": Case(RUN, '{"a": {"b": 1, "b": 2}, "a": 1}', "a", "duplicate_key", 400),
    "half of a surrogate pair": Case(
        RUN,
        '{"graph_id": "gr_1", "initial_state": {"a": ["\\ud83d\\ude00", "\\ud83d"]}}',
        "initial_state.a[1]",
        "invalid_text",
        400,
    ),
    "half of a surrogate pair as a key": Case(
        RUN, '{"graph_id": "gr_1", "initial_state": {"\\udc00": 1}}', "initial_state.?", "invalid_text", 400
    ),
    "half of a surrogate pair and nothing else": Case(RUN, '"\\ud800"', "", "invalid_text", 400),
    "a bomb of arrays": Case(RUN, "[" * 30_000, "", "nesting_too_deep", 400),
    "a bomb of objects": Case(RUN, '{"a":' * 10_000 + "1" + "}" * 10_000, "", "nesting_too_deep", 400),
    "a bomb with brackets in strings": Case(RUN, '["]]]]",' * 5_000, "", "nesting_too_deep", 400),
}


@pytest.fixture
def known_graph(client: TestClient) -> None:
    client.post(NODES, json={"name": "double", "code": DOUBLE})
    assert client.post(GRAPH, json=with_node()).json()["graph_id"] == "gr_1"


@pytest.mark.usefixtures("known_graph")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_wrong_is_named_and_not_kept(client: TestClient, world: World, case: Case) -> None:
    before = world.stored()
    body = case.body if isinstance(case.body, (str, bytes)) else json.dumps(case.body)
    answer = client.post(case.path, content=body, headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (case.status, case.code), problem
    assert problem["errors"][0]["path"] == case.field
    assert problem["errors"][0]["code"] == case.code
    assert problem["errors"][0]["message"]
    assert len(answer.content) < 5_000
    assert world.stored() == before


def test_code_and_conditions_are_wrong_at_a_line_and_column(client: TestClient) -> None:
    answer = client.post(NODES, json={"name": "f", "code": "def f():\n    return )\n"})
    error = answer.json()["errors"][0]
    assert (error["line"], error["column"]) == (2, 12)
    error = client.post(GRAPH, json=with_edge(condition="state. >= 3")).json()["errors"][0]
    assert error["line"] == 1
    assert error["column"] > 1


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [('{"name": "f",\n "code": }', 2, 10), ('{"a": "NaN",\n  "b": NaN}', 2, 8), ('{"a": -Infinity}', 1, 7)],
)
def test_malformed_json_is_wrong_at_a_line_and_column(client: TestClient, body: str, line: int, column: int) -> None:
    error = client.post(NODES, content=body).json()["errors"][0]
    assert (error["line"], error["column"]) == (line, column)


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", GRAPH, with_edge(condition=5), 'It must be an expression (a string) or {"function": name}.'),
        ("GET", "/graph/list?limit=ten", None, "It must be an integer."),
    ],
)
def test_messages_are_in_plain_words(
    client: TestClient, method: str, path: str, body: Document | None, message: str
) -> None:
    answer = client.request(method, path, json=body)
    assert [error["message"] for error in answer.json()["errors"]] == [message]


def test_everything_that_is_wrong_is_said_at_once(client: TestClient) -> None:
    document = graph(nodes=[{"type": "robot"}, {"name": 5, "colour": 1}], edges=[{}], name="")
    errors = client.post(GRAPH, json=document).json()["errors"]
    assert [(error["path"], error["code"]) for error in errors] == [
        ("name", "too_short"),
        ("nodes[0].name", "missing_field"),
        ("nodes[0].type", "unknown_node_type"),
        ("nodes[1].name", "wrong_type"),
        ("nodes[1].colour", "unknown_field"),
        ("edges[0].source", "missing_field"),
        ("edges[0].target", "missing_field"),
    ]
    assert all(known in errors[2]["message"] for known in ("start", "end", "standard", "loop"))


PARAMETERS = {
    "no items": ("/nodes/list?limit=0", "limit", "out_of_range"),
    "too many items": ("/graph/list?limit=501", "limit", "out_of_range"),
    "a limit that is no number": ("/tools/list?limit=ten", "limit", "wrong_type"),
    "an unknown status": ("/graph/runs?status=done", "status[0]", "unknown_value"),
    "a cursor that is none": ("/graph/runs?cursor=nonsense", "cursor", "invalid_cursor"),
    "a cursor that no list makes": ("/graph/runs?cursor=a%20b", "cursor", "invalid_cursor"),
    "one of two statuses that is none": ("/graph/runs?status=failed&status=done", "status[1]", "unknown_value"),
    "a tag that is none": ("/graph/runs?tag=a%20b", "tag[0]", "invalid_name"),
    "too many tags": (f"/graph/runs?{'&'.join(f'tag={n}' for n in range(21))}", "tag", "too_long"),
    "a time that is none": ("/graph/runs?created_after=yesterday", "created_after", "invalid_value"),
    "a time without a zone": ("/graph/runs?finished_before=2026-11-23T12:00:00", "finished_before", "invalid_value"),
    "an unknown order": ("/graph/runs?sort=status", "sort", "unknown_value"),
    "an unknown order of functions": ("/nodes/list?sort=version", "sort", "unknown_value"),
    "a pause that is no answer": ("/graph/runs?paused=perhaps", "paused", "wrong_type"),
    "a version before the first": ("/nodes/double?version=0", "version", "out_of_range"),
    "a parameter of a route without any": ("/readyz?deep=1", "deep", "unknown_field"),
    "a parameter of a graph": ("/graph/graph_1?version=1", "version", "unknown_field"),
    "a cursor that is too long": (f"/graph/runs?cursor={'1' * 1_025}", "cursor", "too_long"),
    "an unknown parameter": ("/graph/runs?statu=failed", "statu", "unknown_field"),
    "an unknown parameter of a state": ("/graph/state/run_1?att=1", "att", "unknown_field"),
    "a checkpoint before the first": ("/graph/state/run_1?at=-1", "at", "out_of_range"),
    "a checkpoint beyond all": (f"/graph/state/run_1?at={2**63}", "at", "out_of_range"),
    "a checkpoint with thousands of digits": (f"/graph/state/run_1?at={'9' * 5_000}", "at", "out_of_range"),
    "a status of no nodes": ("/graph/status/run_1?limit=0", "limit", "out_of_range"),
    "a status of too many nodes": ("/graph/status/run_1?limit=501", "limit", "out_of_range"),
    "an unknown parameter of a status": ("/graph/status/run_1?after=1", "after", "unknown_field"),
    "an unknown parameter of a history": ("/graph/history/run_1?after=1", "after", "unknown_field"),
    "a history of no commits": ("/graph/history/run_1?limit=0", "limit", "out_of_range"),
    "a history of an endless node": (f"/graph/history/run_1?node={'n' * 129}", "node", "too_long"),
    "a history of an endless scope": (f"/graph/history/run_1?scope={'s' * 8_193}", "scope", "too_long"),
    "an endless failure": (f"/graph/runs?failure={'f' * 129}", "failure", "too_long"),
    "a checkpoint that is no number": ("/graph/state/run_1?at=last", "at", "wrong_type"),
}


@pytest.mark.parametrize(("path", "field", "code"), PARAMETERS.values(), ids=PARAMETERS.keys())
def test_parameters_are_checked(client: TestClient, path: str, field: str, code: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 422
    assert (answer.json()["errors"][0]["path"], answer.json()["errors"][0]["code"]) == (field, code)


UNKNOWN: dict[str, Document | None] = {
    "GET /graph/status/{}": None,
    "GET /graph/state/{}": None,
    "GET /graph/history/{}": None,
    "GET /graph/{}": None,
    "POST /graph/cancel/{}": None,
    "POST /graph/pause/{}": None,
    "POST /graph/unpause/{}": None,
    "POST /graph/event/{}": {"name": "n"},
    "POST /graph/fork/{}": {"at": 0},
    "POST /graph/resume/{}": {},
    "POST /graph/replay/{}": {"node": "n"},
}


@pytest.mark.parametrize("route", UNKNOWN)
@pytest.mark.parametrize("key", ["nope", "%00", "%F0%9F%98%80", "a%2Fb", "%ff", "x" * 2_000])
def test_unknown_ids_are_404(client: TestClient, route: str, key: str) -> None:
    method, path = route.split()
    answer = client.request(method, path.format(key), json=UNKNOWN[route])
    assert answer.status_code == 404
    # An escaped slash makes it another route.
    wanted = "route_not_found" if key == "a%2Fb" else "graph_not_found" if path == "/graph/{}" else "run_not_found"
    assert answer.json()["code"] == wanted


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"tab\tbed", b"\xe9"])
def test_idempotency_keys_are_printable_and_short(client: TestClient, key: bytes) -> None:
    answer = client.post(RUN, json={"graph_id": "gr_1"}, headers=[(b"idempotency-key", key)])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "idempotency-key"
