"""A graph as a document, and back."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.model.graphs import graph_of, loop
from tests.unit.model.profile import examples
from tests.unit.model.programs import Program, programs

from sandgraph.model.document import from_document, to_document
from sandgraph.model.graph import Condition, Edge, Graph, Node, NodeType, OnError, OnMax, Outcome
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import RETRYABLE, Retry

_NAMES = st.text(max_size=5)
_SECONDS = st.floats(0, 1e6)
_COUNTS = st.integers(0, 2**40)
_CONDITIONS = st.none() | st.builds(Condition, expression=_NAMES) | st.builds(Condition, function=_NAMES)
_LIMITS = st.builds(Limits, _SECONDS, _COUNTS, _SECONDS, _COUNTS, _COUNTS, _COUNTS)
_RETRIES = st.builds(
    Retry, _COUNTS, _SECONDS, _SECONDS, _SECONDS, st.booleans(), st.frozensets(st.sampled_from(sorted(RETRYABLE)))
)
_PASSED = st.none() | st.dictionaries(_NAMES, _NAMES, max_size=3).map(lambda passed: tuple(passed.items()))
_NODES = st.builds(
    Node,
    _NAMES,
    st.sampled_from(NodeType),
    st.none() | _NAMES,
    _CONDITIONS,
    st.none() | _COUNTS,
    st.sampled_from(OnMax),
    _LIMITS,
    _RETRIES,
    st.none() | st.integers(1, 9),
    st.none() | _NAMES,
    st.none() | _NAMES,
    st.integers(1, 1_000),
    st.none() | _NAMES,
    st.none() | _SECONDS,
    st.none() | _NAMES,
    _PASSED,
    _PASSED,
)
_EDGES = st.builds(Edge, _NAMES, _NAMES, _CONDITIONS, default=st.booleans(), on=st.frozensets(st.sampled_from(Outcome)))
_GRAPHS = st.builds(
    Graph,
    _NAMES,
    st.lists(_NODES, max_size=3).map(tuple),
    st.lists(_EDGES, max_size=3).map(tuple),
    st.none() | _NAMES,
    _COUNTS,
    st.none() | _SECONDS,
    st.sampled_from(Isolation),
    st.none() | _NAMES,
    st.sampled_from(OnError),
    st.dictionaries(_NAMES, st.sampled_from(Reducer), max_size=3).map(lambda keys: tuple(keys.items())),
    st.none() | _COUNTS,
)


@examples(100)
@given(_GRAPHS)
def test_a_graph_is_the_same_after_a_trip_through_json(graph: Graph) -> None:
    assert from_document(json.loads(json.dumps(to_document(graph)))) == graph


@examples(20)
@given(programs())
def test_a_valid_graph_is_too(program: Program) -> None:
    assert from_document(json.loads(json.dumps(to_document(program.graph)))) == program.graph


def test_a_document_of_an_earlier_release_has_the_defaults() -> None:
    graph = graph_of("start>a a>end")
    document = {
        name: value for name, value in to_document(graph).items() if name not in {"isolation", "runtime", "on_error"}
    }
    for node in document["nodes"]:  # type: ignore[union-attr]
        del node["join"]  # type: ignore[arg-type, union-attr]
    for edge in document["edges"]:  # type: ignore[union-attr]
        del edge["on"]  # type: ignore[arg-type, union-attr]
    assert from_document(document) == graph


def test_every_field_is_spelled_out() -> None:
    graph = replace(graph_of("start>a a>end?", loop("a", 3)), name="g", timeout_s=60, isolation=Isolation.RUN)
    document = to_document(graph)
    assert document["nodes"][1] == {  # type: ignore[index]
        "name": "a",
        "type": "loop",
        "function": "a",
        "condition": "go",
        "max_iterations": 3,
        "on_max": "exit",
        "join": "all",
        "limits": {"cpus": 1.0, "memory_mb": 256, "timeout_s": 30.0, "pids": 64, "tmp_mb": 16, "output_kb": 1024},
        "retry": {
            "max_attempts": 1,
            "initial_s": 0.5,
            "factor": 2.0,
            "max_s": 30.0,
            "jitter": True,
            "on": ["error", "lost", "oom", "timeout"],
        },
        "items": None,
        "into": None,
        "max_concurrency": 8,
        "event": None,
        "timeout_s": None,
        "graph_id": None,
        "inputs": None,
        "outputs": None,
    }
    assert document["edges"][1] == {  # type: ignore[index]
        "source": "a",
        "target": "end",
        "condition": "a_end",
        "default": False,
        "on": ["succeeded"],
    }
    assert {name: document[name] for name in document if name not in {"nodes", "edges"}} == {
        "name": "g",
        "start_node": None,
        "max_steps": 1_000,
        "timeout_s": 60,
        "isolation": "run",
        "runtime": None,
        "on_error": "fail_fast",
        "state": {},
        "max_concurrent_runs": None,
    }
