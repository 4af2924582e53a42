"""Graphs of live functions."""

from __future__ import annotations

import keyword
import math
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Self

from sandgraph.api.schemas.graph import parse_graph
from sandgraph.errors import InvalidInput
from sandgraph.model.graph import NodeType, OnMax
from sandgraph.model.limits import Limits
from sandgraph.model.retry import Retry
from sandgraph.model.validity import problems
from sandgraph.settings import Settings

#: A node's function, or one that decides a condition; it gets the state.
Function = Callable[..., Any]

#: A Python expression over ``state``, a function, or the name of a registered one as ``{"function": name}``.
Condition = str | Function | Mapping[str, str]

#: Keys of a subgraph and of the graph around it, one with the other, or names that are the same on both sides.
Passed = Mapping[str, str] | Iterable[str]

#: Gives a function a name to be registered under, from the path of its field and a name that would fit.
NameOf = Callable[[str, str, Function], str]

#: Ceilings are the engine's to know, which a graph meets when it is registered.
NO_CEILING = Limits(*(sys.maxsize for _ in fields(Limits)))
_ANY = Settings.model_construct(
    max_nodes=sys.maxsize, max_edges=sys.maxsize, max_steps=sys.maxsize, run_timeout_s=math.inf
)

_LONGEST_NAME = 100


class WorkflowGraph:
    """A graph in the making: nodes, the functions they run, and the edges between them.

    Each method looks at what it is given; whether the graph as a whole makes sense shows when an engine registers it.

    Args:
        name: For people, and shared by the versions of one graph.
        start_node: Where runs start; without it, at the node of type START.
        max_steps: Most node runs, start and end not counted, that a run may take.
        timeout_s: Longest that a run may take, in seconds.
        isolation: ``node``: each attempt has a sandbox of its own; ``run``: the attempts of one run share sandboxes.
        runtime: OCI runtime of the sandboxes, one that the engine's settings allow; without it the deployment's.
        on_error: What a failure does for which no edge leaves its node: ``fail_fast``, or ``finish`` what does not
            depend on it.
        state: Keys that parallel branches may change without a conflict, each with its reducer: ``{"found": "append"}``
            or ``{"found": {"reducer": "append"}}``; there are ``append``, ``extend``, ``union``, ``add``, ``min``,
            ``max`` and ``merge``.
        max_concurrent_runs: Most runs of the graph that are under way at the same time; further ones wait.

    Raises:
        InvalidInput: An argument is wrong; its ``problems`` say where.
    """

    def __init__(  # noqa: PLR0913 - a graph has as many fields
        self,
        name: str,
        *,
        start_node: str | None = None,
        max_steps: int | None = None,
        timeout_s: float | None = None,
        isolation: str | None = None,
        runtime: str | None = None,
        on_error: str | None = None,
        state: Mapping[str, str | Mapping[str, str]] | None = None,
        max_concurrent_runs: int | None = None,
    ) -> None:
        given = {
            "name": name,
            "start_node": start_node,
            "max_steps": max_steps,
            "timeout_s": timeout_s,
            "isolation": isolation,
            "runtime": runtime,
            "on_error": on_error,
            "state": _reducers(state),
            "max_concurrent_runs": max_concurrent_runs,
        }
        self._head: dict[str, object] = {key: value for key, value in given.items() if value is not None}
        self._nodes: list[dict[str, object]] = []
        self._edges: list[dict[str, object]] = []
        self._subgraphs: dict[int, WorkflowGraph] = {}
        self._id = f"graph_{uuid.uuid4().hex}"
        parse_graph({**self._head, "name": name, "nodes": []}, _ANY)

    @property
    def graph_id(self) -> str:
        """What engines call this graph."""
        return self._id

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self._head["name"])

    def add_node(  # noqa: PLR0913 - a node has as many fields
        self,
        name: str,
        func: Function | None = None,
        node_type: NodeType | str = NodeType.STANDARD,
        *,
        function: str | None = None,
        condition: Condition | None = None,
        max_iterations: int | None = None,
        on_max: OnMax | str = OnMax.EXIT,
        join: str | int = "all",
        limits: Limits | Mapping[str, float] | None = None,
        retry: Retry | Mapping[str, object] | None = None,
        items: str | None = None,
        into: str | None = None,
        max_concurrency: int | None = None,
        event: str | None = None,
        timeout_s: float | None = None,
        graph: WorkflowGraph | None = None,
        graph_id: str | None = None,
        inputs: Passed | None = None,
        outputs: Passed | None = None,
    ) -> Self:
        """Add a node.

        Args:
            name: Unique in the graph.
            func: What it runs; called with the state. A map's is called with an item, and with the state to read if
                it takes two arguments; what it returns is the item's result.
            node_type: What it does.
            function: Instead of ``func``, the name of something registered, such as ``review_score_quality``.
            condition: A loop's: asked before each iteration.
            max_iterations: A loop's bound.
            on_max: What becomes of a loop that reaches its bound: ``exit`` or ``fail``.
            join: Which of its inputs it waits for: ``all`` that are not skipped, ``any`` one, or so many.
            limits: Of each attempt's sandbox: some of the fields of `Limits`.
            retry: What becomes of a failed attempt: some of the fields of `Retry`.
            items: A map's: key of the list whose items its function is called with.
            into: Key that gets a map's results, or the payload of a wait's event; without it, a wait's goes under the
                event's name.
            max_concurrency: A map's: most items that run at the same time.
            event: A wait's: name of the event; without it, it ends when its time is over.
            timeout_s: Longest that a wait, a map or a subgraph takes, in seconds.
            graph: A subgraph's: the graph that it runs; it is registered with this one.
            graph_id: Instead of ``graph``, the id of one that is registered.
            inputs: What a subgraph sees: its keys, each with the key outside, or names that are the same on both sides;
                without it, the whole state.
            outputs: What it leaves: keys outside, each with its own, or names that are the same on both sides; without
                it, all that it changed.

        Returns:
            The graph itself.

        Raises:
            InvalidInput: An argument is wrong; its ``problems`` say where.
        """
        path = f"nodes[{len(self._nodes)}]"
        if func is not None and not callable(func):
            raise InvalidInput.at(f"{path}.function", "wrong_type", f"func is a function, not a {type(func).__name__}.")
        if func is not None and function is not None:
            message = "A node runs either func or the registered function of that name, not both."
            raise InvalidInput.at(f"{path}.function", "two_functions", message)
        if graph is not None and not isinstance(graph, WorkflowGraph):
            raise InvalidInput.at(f"{path}.graph_id", "wrong_type", f"It is a {type(graph).__name__}, and no graph.")
        if graph is not None and graph_id is not None:
            message = "A node runs either graph or the registered graph of that id, not both."
            raise InvalidInput.at(f"{path}.graph_id", "two_graphs", message)
        for index, node in enumerate(self._nodes):
            if node["name"] == name:
                message = f"The name {name!r} is already that of nodes[{index}]."
                raise InvalidInput.at(f"{path}.name", "duplicate_node", message)
        given: dict[str, object] = {
            "name": name,
            "type": _value(node_type),
            "function": function if func is None else func,
            "condition": condition,
            "max_iterations": max_iterations,
            "on_max": _value(on_max),
            "join": join,
            "limits": asdict(limits) if isinstance(limits, Limits) else limits,
            "retry": {**asdict(retry), "on": [*retry.on]} if isinstance(retry, Retry) else retry,
            "items": items,
            "into": into,
            "max_concurrency": max_concurrency,
            "event": event,
            "timeout_s": timeout_s,
            "graph_id": graph_id if graph is None else graph.graph_id,
            "inputs": _passed(inputs),
            "outputs": _passed(outputs),
        }
        part = {key: value for key, value in given.items() if value is not None}
        self._check({"nodes": [part]}, ("nodes[0]",), path)
        if graph is not None:
            self._subgraphs[len(self._nodes)] = graph
        self._nodes.append(part)
        return self

    def add_edge(
        self,
        source: str,
        target: str,
        condition: Condition | None = None,
        *,
        default: bool = False,
        on: Iterable[str] | None = None,
    ) -> Self:
        """Add a way from one node to the next.

        Args:
            source: Name of the node it leaves.
            target: Name of the node it enters.
            condition: Taken only if this holds; always without one.
            default: Taken only if no other edge of the source is.
            on: Taken only if one of these became of the source: ``succeeded`` (without it, this alone), ``failed``,
                ``timed_out``, ``skipped``.

        Returns:
            The graph itself.

        Raises:
            InvalidInput: An argument is wrong; its ``problems`` say where.
        """
        given: dict[str, object] = {
            "source": source,
            "target": target,
            "condition": condition,
            "default": default,
            # A word by itself would be taken for its letters.
            "on": [*on] if isinstance(on, Iterable) and not isinstance(on, str) else on,
        }
        part = {key: value for key, value in given.items() if value is not None}
        self._check({"nodes": [], "edges": [part]}, ("edges[0].default", "edges[0].on"), f"edges[{len(self._edges)}]")
        self._edges.append(part)
        return self

    def subgraphs(self) -> Iterator[tuple[str, WorkflowGraph]]:
        """Yield the graphs that its nodes run, each with the path of the node's field."""
        for index, graph in self._subgraphs.items():
            yield f"nodes[{index}].graph_id", graph

    def document(self, name_of: NameOf) -> dict[str, object]:
        """Return the graph as POST /graph/create takes it, its functions replaced by the names they get.

        Its subgraphs are there by their ids in the program.
        """
        return {
            **self._head,
            "nodes": [_named(part, f"nodes[{i}]", name_of) for i, part in enumerate(self._nodes)],
            "edges": [_named(part, f"edges[{i}]", name_of) for i, part in enumerate(self._edges)],
        }

    def _check(self, parts: dict[str, list[dict[str, object]]], judged: tuple[str, ...], path: str) -> None:
        """Raise what is wrong with one node or edge by itself.

        Args:
            parts: It, as the only one.
            judged: The beginnings of the paths at which the model can judge it without the others.
            path: Its own in this graph.
        """
        plain = {kind: [_named(part, "", _any_name) for part in some] for kind, some in parts.items()}
        begin = judged[0].partition(".")[0]
        try:
            graph = parse_graph({"name": self.name, **plain}, _ANY)
        except InvalidInput as invalid:
            found = list(invalid.problems)
        else:
            found = [each for each in problems(graph, NO_CEILING) if each.path.startswith(judged)]
        if found:
            raise InvalidInput([replace(each, path=path + each.path.removeprefix(begin)) for each in found])


def wish(function: Function, otherwise: str) -> str:
    """Return a name for a function to be registered under: its own, or one made of other words."""
    own = getattr(function, "__name__", "")
    words = own if isinstance(own, str) and own.isidentifier() and own.isascii() else otherwise
    name = re.sub(r"[^A-Za-z0-9_]+", "_", words)[:_LONGEST_NAME].strip("_") or "function"
    return f"_{name}" if name[0].isdigit() or keyword.iskeyword(name) else name


def _named(part: Mapping[str, object], path: str, name_of: NameOf) -> dict[str, object]:
    words = str(part.get("name") or f"{part.get('source')}_to_{part.get('target')}")
    out = dict(part)
    function, condition = part.get("function"), part.get("condition")
    if callable(function):
        out["function"] = name_of(f"{path}.function", wish(function, words), function)
    if callable(condition):
        name = name_of(f"{path}.condition.function", wish(condition, f"{words}_condition"), condition)
        out["condition"] = {"function": name}
    elif isinstance(condition, Mapping):
        out["condition"] = dict(condition)
    return out


def _reducers(state: Mapping[str, str | Mapping[str, str]] | None) -> object:
    if not isinstance(state, Mapping):
        return state
    return {key: {"reducer": said} if isinstance(said, str) else _plain(said) for key, said in state.items()}


def _passed(passed: Passed | None) -> object:
    # A word by itself would be taken for its letters.
    if isinstance(passed, str | Mapping) or not isinstance(passed, Iterable):
        return _plain(passed)
    return [*passed]


def _plain(given: object) -> object:
    return dict(given) if isinstance(given, Mapping) else given


def _any_name(_path: str, _wish: str, _function: Function) -> str:
    return "function"


def _value(given: object) -> object:
    return given.value if isinstance(given, NodeType | OnMax) else given
