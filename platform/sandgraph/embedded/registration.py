"""What has to be registered for a graph of live functions: functions, tools, and the graph that names them."""

from __future__ import annotations

import asyncio
import keyword
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from sandgraph.api.schemas.graph import parse_graph
from sandgraph.api.services import Catalog
from sandgraph.embedded.capture import capture
from sandgraph.embedded.graph import NO_CEILING, Function, WorkflowGraph
from sandgraph.embedded.source import Uncapturable
from sandgraph.errors import InvalidInput, Problem
from sandgraph.model.graph import Graph
from sandgraph.model.topology import analyse
from sandgraph.model.validity import problems
from sandgraph.settings import Settings
from sandgraph.store.records import GraphVersion
from sandgraph_runner.protocol import Source
from sandgraph_runner.tools import get_global_registry

_LONGEST_DESCRIPTION = 2_000

#: Far more graphs in each other than any deployment allows.
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Code:
    """Source to be registered, and the path of the field that asks for it."""

    path: str
    name: str
    code: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Registration:
    """All that a graph needs to be registered."""

    graph_id: str
    graph: Graph
    functions: tuple[Code, ...]
    tools: tuple[Code, ...]


class Registrar:
    """Prepares registrations, and gives functions their names.

    A function is registered under its own name, or with a number where a different one of that name belongs to another
    graph of this engine, or to another node. Registering a graph again makes new versions of its functions.

    Args:
        settings: Of the engine.
        live: Where live functions go, by the sources that stand for them; None where they are captured instead.
    """

    def __init__(self, settings: Settings, live: dict[Source, Function] | None) -> None:
        self._settings = settings
        self._live = live
        self._numbers: dict[int, tuple[int, Function]] = {}
        self._names: dict[str, dict[str, str]] = {}
        self._tools: dict[str, Code] = {}

    def prepare(self, graph: WorkflowGraph) -> Registration:
        """Check a graph and take the source of its functions and of all tools in the global registry.

        Raises:
            InvalidInput: The graph is wrong, or a source cannot be taken.
        """
        shape = parse_graph(graph.document(lambda _path, wish, _function: wish), self._settings)
        found = problems(shape, NO_CEILING) or analyse(shape)
        if isinstance(found, list) and found:
            raise InvalidInput(found)
        named = {name for _, name in parse_graph(graph.document(lambda *_: "_"), self._settings).functions()}
        namer = _Namer(self, graph.graph_id, named)
        document = graph.document(namer.name_of)
        tools = list(self._captured_tools(namer.problems)) if self._live is None else []
        if namer.problems:
            raise InvalidInput(namer.problems)
        return Registration(graph.graph_id, parse_graph(document, self._settings), tuple(namer.functions), tuple(tools))

    async def perform(
        self, registration: Registration, catalog: Catalog, known: Mapping[str, str] | None = None
    ) -> GraphVersion:
        """Register everything, and return the version of the graph.

        Args:
            registration: Of the graph.
            catalog: Where it is registered.
            known: The ids of graphs' versions that were registered before, by their ids in the program.

        Raises:
            InvalidInput: A source does not work in a sandbox, or the graph is over the deployment's bounds.
            EngineUnavailable: There is no sandbox to check the sources in.
        """
        new = [each for each in registration.tools if self._tools.get(each.name) != each]
        await _all(
            [
                *((each, catalog.register_tool(each.name, each.code, each.description)) for each in new),
                *((each, catalog.register_function(each.name, each.code)) for each in registration.functions),
            ]
        )
        version, _ = await catalog.create_graph(_resolved(registration.graph, known or {}))
        self._tools |= {each.name: each for each in new}
        for uses in self._names.values():
            uses.pop(registration.graph_id, None)
        for each in registration.functions:
            self._names.setdefault(each.name, {})[registration.graph_id] = each.code
        return version

    def is_free(self, name: str, code: str, graph_id: str) -> bool:
        """Tell whether no other graph means other code by a name."""
        return all(other == code for user, other in self._names.get(name, {}).items() if user != graph_id)

    def code_of(self, function: Function, name: str) -> str:
        """Return source that stands for a function under a name.

        Raises:
            Uncapturable: It cannot be taken.
        """
        if self._live is None:
            return capture(function, name)
        number, _ = self._numbers.setdefault(id(function), (len(self._numbers) + 1, function))
        what = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', name)}"
        code = (
            f"# Function {number} of the process that registered it, which calls it there: {what!r}\n"
            f"def {name}(*args, **kwargs):\n"
            '    raise RuntimeError("this function is live in the process that registered it, and nowhere else")\n'
        )
        self._live[Source(name, code)] = function
        return code

    def _captured_tools(self, wrong: list[Problem]) -> Iterator[Code]:
        registry = get_global_registry()
        for entry in registry.describe():
            name, path = entry["name"], f"tools.{entry['name']}"
            if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
                wrong.append(Problem(path, "invalid_name", "A tool's name is a Python identifier of ASCII characters."))
                continue
            try:
                code = capture(registry.get(name), name)
            except Uncapturable as why:
                wrong.append(_not_capturable(path, "tool", name, why))
                continue
            yield Code(path, name, code, entry["description"][:_LONGEST_DESCRIPTION])


class _Namer:
    """Names the functions of one graph."""

    def __init__(self, registrar: Registrar, graph_id: str, reserved: set[str]) -> None:
        self._registrar = registrar
        self._graph_id = graph_id
        self._reserved = reserved
        self._codes: dict[str, str] = {}
        self.functions: list[Code] = []
        self.problems: list[Problem] = []

    def name_of(self, path: str, wish: str, function: Function) -> str:
        for number in count(1):
            name = wish if number == 1 else f"{wish}_{number}"
            try:
                code = self._registrar.code_of(function, name)
            except Uncapturable as why:
                self.problems.append(_not_capturable(path, "function", getattr(function, "__name__", wish), why))
                return wish
            if self._codes.get(name) == code:
                return name
            is_taken = name in self._codes or name in self._reserved
            if not is_taken and self._registrar.is_free(name, code, self._graph_id):
                self._codes[name] = code
                self.functions.append(Code(path, name, code))
                return name
        raise AssertionError


def subgraphs_first(graph: WorkflowGraph) -> list[tuple[str, WorkflowGraph]]:
    """Return a graph and all that it runs, each once and after those that it runs, with the paths that lead there.

    Raises:
        InvalidInput: A graph runs itself, or graphs are too deep in each other.
    """
    found: dict[str, tuple[str, WorkflowGraph]] = {}

    def visit(graph: WorkflowGraph, path: str, around: tuple[str, ...]) -> None:
        if graph.graph_id in around:
            raise InvalidInput.at(path, "recursive_graph", f"The graph {graph.name!r} would run itself.")
        if len(around) > _DEEPEST:
            message = f"Graphs run graphs that run graphs, more than {_DEEPEST} deep."
            raise InvalidInput.at(path, "graphs_too_deep", message)
        if graph.graph_id in found:
            return
        for below, subgraph in graph.subgraphs():
            visit(subgraph, f"{path}.{below}" if path else below, (*around, graph.graph_id))
        found[graph.graph_id] = (path, graph)

    visit(graph, "", ())
    return list(found.values())


def within(path: str, invalid: InvalidInput) -> InvalidInput:
    """Return what is wrong with a subgraph as told of the graph around it."""
    if not path:
        return invalid
    return InvalidInput([replace(each, path=f"{path}.{each.path}" if each.path else path) for each in invalid.problems])


def _resolved(graph: Graph, known: Mapping[str, str]) -> Graph:
    nodes = (replace(node, graph_id=known.get(node.graph_id or "", node.graph_id)) for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def _not_capturable(path: str, kind: str, name: str, why: Uncapturable) -> Problem:
    return Problem(path, "source_not_capturable", f"The {kind} {name!r} cannot be taken to a sandbox: {why}.")


async def _all(registering: list[tuple[Code, Awaitable[Any]]]) -> None:
    """Await all, and raise all that is wrong as one error."""
    ended = await asyncio.gather(*(each for _, each in registering), return_exceptions=True)
    wrong: list[Problem] = []
    for (code, _), error in zip(registering, ended, strict=True):
        if isinstance(error, InvalidInput):
            wrong += (Problem(code.path, each.code, _in_source(code.name, each)) for each in error.problems)
        elif isinstance(error, BaseException):
            raise error
    if wrong:
        raise InvalidInput(wrong)


def _in_source(name: str, problem: Problem) -> str:
    line = f" at line {problem.line}" if problem.line else ""
    return f"In the source taken of {name!r}{line}: {problem.message}"
