"""What an attempt is asked to do, by what the scheduler wants of its node."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.unit.model.graphs import graph_of, loop, mapped, plain, shape, waiting

from sandgraph.errors import Conflict
from sandgraph.execution.jobs import RunPlan, idempotency_key
from sandgraph.execution.transport import Assignment
from sandgraph.model.commands import StartAttempt
from sandgraph.model.graph import Condition, Graph
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.progress import Blueprint
from sandgraph.model.run import NodeRunKey
from sandgraph.model.state import View
from sandgraph.settings import load_settings
from sandgraph.store.records import CodeVersion
from sandgraph_runner import protocol

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def version(name: str) -> CodeVersion:
    return CodeVersion(name, 1, "hash", f"def {name}(state): pass", "", NOW)


def plan_of(graph: Graph, **nested: Graph) -> RunPlan:
    graphs = {name: Blueprint(each, shape(each)) for name, each in nested.items()}
    names = [name for each in (graph, *nested.values()) for _, name in each.functions()]
    functions = {name: version(name) for name in names}
    return RunPlan("run_1", Blueprint(graph, shape(graph)), functions, {"t": version("t")}, graphs)


def asked(plan: RunPlan, node: str, *, iteration: int = 1, scope: str = "", **how: object) -> Assignment:
    command = StartAttempt(NodeRunKey(node, iteration, scope), 2, View.initial({"x": 1}), **how)  # type: ignore[arg-type]
    return plan.assignment(command, load_settings())


def source(name: str) -> protocol.Source:
    return protocol.Source(name, f"def {name}(state): pass")


def expressions(job: protocol.Job) -> list[str | None]:
    return [each.expression for each in job.after]


CHOICE = graph_of("start>a a>b? a>c? a>d! b>end c>end d>end")


def test_a_plain_node_gets_its_function_and_what_is_asked_behind_it() -> None:
    found = asked(plan_of(CHOICE), "a")
    job = found.job
    assert (job.function, job.before, job.again, expressions(job)) == (source("a"), None, None, ["a_b", "a_c"])
    assert (job.item_key, job.scope, job.run_id, job.node, job.iteration, job.attempt) == (None, "", "run_1", "a", 1, 2)
    assert job.tools == (source("t"),)
    assert job.idempotency_key == "run_1/a/1"
    assert (found.run_id, found.key, found.attempt, found.state) == ("run_1", NodeRunKey("a"), 2, {"x": 1})


def test_where_only_conditions_are_asked_no_function_runs() -> None:
    job = asked(plan_of(CHOICE), "a", asks_only=True).job
    assert (job.function, job.before, job.again, expressions(job)) == (None, None, None, ["a_b", "a_c"])


@pytest.mark.parametrize("node", [waiting("a"), mapped("a"), plain("a")])
def test_what_has_no_function_of_its_own_is_only_asked(node: object) -> None:
    graph = graph_of("start>a a>b? a>c! b>end c>end", node)  # type: ignore[arg-type]
    job = asked(plan_of(graph), "a", asks_only=True).job
    assert (job.function, expressions(job), job.item_key) == (None, ["a_b"], None)


LOOP = graph_of("start>l l>b? l>end! b>end", loop("l", 3))
COUNTS = graph_of("start>l l>b? l>end! b>end", loop("l", 3, None))


def test_a_loop_asks_before_its_first_iteration_and_after_each() -> None:
    first, later = asked(plan_of(LOOP), "l", is_entry=True).job, asked(plan_of(LOOP), "l", iteration=2).job
    again = protocol.Condition(expression="go")
    assert (first.before, first.again, first.is_last, expressions(first)) == (again, again, False, ["l_b"])
    assert (later.before, later.again, later.is_last, expressions(later)) == (None, again, False, ["l_b"])
    assert asked(plan_of(LOOP), "l", iteration=3, is_last=True).job.is_last


def test_a_loop_whose_commit_was_changed_asks_anew_whether_it_goes_on() -> None:
    job = asked(plan_of(LOOP), "l", asks_only=True).job
    assert (job.function, job.before, job.again) == (None, None, protocol.Condition(expression="go"))
    assert (job.is_last, expressions(job)) == (False, ["l_b"])


@pytest.mark.parametrize("asks_only", [False, True])
def test_a_loop_that_only_counts_asks_its_edges_in_its_last_iteration(*, asks_only: bool) -> None:
    early = asked(plan_of(COUNTS), "l", asks_only=asks_only).job
    last = asked(plan_of(COUNTS), "l", is_last=True, asks_only=asks_only).job
    assert (early.again, early.after, last.again, expressions(last)) == (None, (), None, ["l_b"])


def test_a_maps_item_gets_the_function_and_no_conditions() -> None:
    plan = plan_of(graph_of("start>m m>b? m>end! b>end", mapped("m")))
    job = asked(plan, "m", iteration=3, scope="m#1", item=2).job
    assert (job.function, job.item_key, job.item_index, job.after) == (source("m"), "items", 2, ())
    assert (job.scope, job.node, job.iteration) == ("m#1", "m", 3)
    assert job.idempotency_key == "run_1/m#1/m#3"


def test_inside_a_subgraph_the_node_is_that_of_its_graph() -> None:
    inner = replace(graph_of("start>a a>z? a>end! z>end"), isolation=Isolation.RUN, runtime="runsc")
    plan = plan_of(CHOICE, inner=inner)
    found = asked(plan, "a", scope="s#1", graph_id="inner")
    assert (expressions(found.job), found.job.scope) == (["a_z"], "s#1")
    assert (found.isolation, found.runtime) == (Isolation.RUN, "runsc")
    assert found.job.idempotency_key == "run_1/s#1/a#1"
    outer = asked(plan, "a")
    assert (outer.isolation, outer.runtime, expressions(outer.job)) == (Isolation.NODE, None, ["a_b", "a_c"])


def test_conditions_may_be_functions() -> None:
    edges = tuple(replace(edge, condition=edge.condition and Condition(function="asks")) for edge in CHOICE.edges)
    plan = plan_of(replace(CHOICE, edges=edges))
    assert asked(plan, "a").job.after == (protocol.Condition(function=source("asks")),) * 2


def test_a_function_that_was_not_pinned_is_missed() -> None:
    plan = replace(plan_of(CHOICE), functions={})
    with pytest.raises(Conflict) as missing:
        asked(plan, "a")
    assert missing.value.code == "function_not_pinned"
    assert asked(plan, "a", asks_only=True).job.function is None


def test_its_limits_are_the_nodes_and_the_states() -> None:
    node = replace(CHOICE.nodes[1], limits=Limits(output_kb=7))
    plan = plan_of(replace(CHOICE, nodes=tuple(node if each.name == "a" else each for each in CHOICE.nodes)))
    command = StartAttempt(NodeRunKey("a"), 1, View.initial({}))
    settings = load_settings(max_state_kb=2, max_state_values=30, max_state_keys=5, max_state_depth=6)
    found = plan.assignment(command, settings)
    assert (found.limits, found.max_state_bytes, found.max_state_values) == (node.limits, 2048, 30)
    job = found.job
    assert (job.max_output_bytes, job.max_depth, job.max_keys, job.max_values) == (7 * 1024, 6, 5, 30)


def test_idempotency_keys_tell_any_two_node_runs_apart() -> None:
    keys = [
        NodeRunKey("a"),
        NodeRunKey("a", 2),
        NodeRunKey("a", 1, "s#1"),
        NodeRunKey("a", 1, "s#1/t#2"),
        NodeRunKey("a", 1, NodeRunKey("s#1/t").path),
        NodeRunKey("s", 1),
        NodeRunKey("s#1/a"),
    ]
    assert len({idempotency_key("run", key) for key in keys}) == len(keys)
