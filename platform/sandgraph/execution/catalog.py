"""What users hand in: functions, tools and graphs, checked in a sandbox before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from sandgraph.errors import EngineUnavailable, InvalidInput, Problem
from sandgraph.execution import plans, runtimes
from sandgraph.execution.fairness import FairSlots
from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.model.graph import Graph
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus
from sandgraph.model.topology import analyse
from sandgraph.model.validity import problems
from sandgraph.sandbox.spec import Broken, CheckProblem, Owner, Sandboxes
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind, CodeVersion, GraphVersion
from sandgraph.store.store import Store
from sandgraph_runner.protocol import Check, Source

#: Seconds that the module level of submitted code may take.
_CHECK_TIMEOUT_S = 10

#: Checks that run at the same time; further ones wait.
_CHECKS_AT_ONCE = 4


#: What a tool counts beside its code: a name in each attempt's job, a row in each run's pins.
_TOOL_COST = 512


class Catalog:
    """Registers functions, tools and graphs.

    Args:
        store: Keeps them.
        sandboxes: Where submitted code is compiled; it is never parsed in this process.
        settings: Of the deployment.
        allowed: The OCI runtimes that a graph may name.
    """

    def __init__(self, store: Store, sandboxes: Sandboxes, settings: Settings, allowed: Sequence[str] = ()) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._settings = settings
        self._runtimes = allowed
        self._turns = FairSlots(_CHECKS_AT_ONCE)
        self._ceiling = Limits(
            settings.ceiling_cpus,
            settings.ceiling_memory_mb,
            settings.ceiling_timeout_s,
            settings.ceiling_pids,
            settings.ceiling_tmp_mb,
            settings.ceiling_output_kb,
        )

    async def register_function(
        self, name: str, code: str, *, tenant: str = DEFAULT_TENANT
    ) -> tuple[CodeVersion, bool]:
        """Store a node function, and say whether that made a new version.

        Raises:
            InvalidInput: The code is too long, does not compile, fails when executed, or does not define the name.
            EngineUnavailable: There is no sandbox to check it in.
        """
        return await self._register(tenant, CodeKind.FUNCTION, name, code, "")

    async def register_tool(
        self, name: str, code: str, description: str, *, tenant: str = DEFAULT_TENANT
    ) -> tuple[CodeVersion, bool]:
        """Store a tool; as `register_function`, and all tools together have a limit too."""
        tools = await self._store.all_tools(tenant=tenant)
        others = [tool.code for tool in tools.values() if tool.name != name]
        limit = self._settings.max_tools_kb * 1024
        if sum(len(each) + _TOOL_COST for each in [*others, code]) > limit:
            message = f"All tools together may have {limit} bytes: an attempt gets every tool. There are {len(others)}."
            raise InvalidInput.at("code", "too_much_tool_code", message)
        return await self._register(tenant, CodeKind.TOOL, name, code, description)

    async def create_graph(self, graph: Graph, *, tenant: str = DEFAULT_TENANT) -> tuple[GraphVersion, bool]:
        """Store a graph, and say whether that made a new version.

        Raises:
            InvalidInput: Everything that is wrong with it, in the document's order as far as one look could find it.
            EngineUnavailable: There is no sandbox to compile its conditions in.
        """
        found = [
            *self._sizes(graph),
            *self._runtime(graph),
            *problems(graph, self._ceiling),
            *await self._unknown_functions(graph, tenant),
            *await plans.problems(self._store, graph, self._settings, tenant),
        ]
        if not found:
            topology = analyse(graph)
            found = topology if isinstance(topology, list) else await self._bad_conditions(graph, tenant)
        if found:
            raise InvalidInput(found)
        return await self._store.save_graph(graph, tenant=tenant)

    async def _register(
        self, tenant: str, kind: CodeKind, name: str, code: str, description: str
    ) -> tuple[CodeVersion, bool]:
        limit = self._settings.max_code_kb * 1024
        try:
            size = len(code.encode())
        except UnicodeEncodeError:
            raise InvalidInput.at("code", "invalid_text", "The code is not valid Unicode text.") from None
        if size > limit:
            raise InvalidInput.at("code", "code_too_large", f"The code has {size} bytes; it may have {limit}.")
        latest = (await self._store.latest_code(kind, [name], tenant=tenant)).get(name)
        if latest is None or latest.code != code:
            found = await self._check(Check(sources=(Source(name, code),)), f"check {kind}", tenant)
            if found:
                raise InvalidInput([Problem("code", each.code, each.message, each.line, each.column) for each in found])
        return await self._store.save_code(kind, name, code, description, tenant=tenant)

    def _sizes(self, graph: Graph) -> list[Problem]:
        found = []
        for path, count, limit in (
            ("nodes", len(graph.nodes), self._settings.max_nodes),
            ("edges", len(graph.edges), self._settings.max_edges),
        ):
            if count > limit:
                found.append(Problem(path, f"too_many_{path}", f"There are {count} {path}; a graph may have {limit}."))
        for path, value, ceiling in (
            ("max_steps", graph.max_steps, self._settings.max_steps),
            ("timeout_s", graph.timeout_s, self._settings.run_timeout_s),
        ):
            if value is not None and value > ceiling:
                found.append(Problem(path, "limit_above_ceiling", f"{value} is above this deployment's {ceiling}."))
        return found

    def _runtime(self, graph: Graph) -> list[Problem]:
        message = runtimes.refusal(graph, self._runtimes)
        return [Problem("runtime", runtimes.CODE, message)] if message else []

    async def _unknown_functions(self, graph: Graph, tenant: str) -> list[Problem]:
        named = list(graph.functions())
        known = await self._store.latest_code(CodeKind.FUNCTION, {name for _, name in named}, tenant=tenant)
        return [
            Problem(path, "unknown_function", f"No function {name!r} is registered; register it first.")
            for path, name in named
            if name not in known
        ]

    async def _bad_conditions(self, graph: Graph, tenant: str) -> list[Problem]:
        asked = [(path, each.expression) for path, each in graph.conditions() if each.expression is not None]
        # Equal expressions are compiled once.
        expressions = tuple(dict.fromkeys(expression for _, expression in asked))
        if not expressions:
            return []
        by_expression: dict[str, list[CheckProblem]] = {}
        for each in await self._check(Check(expressions=expressions), "check graph", tenant):
            by_expression.setdefault(expressions[each.index], []).append(each)
        return list(
            chain.from_iterable(
                (Problem(path, p.code, p.message, p.line, p.column) for p in by_expression.get(expression, ()))
                for path, expression in asked
            )
        )

    async def _check(self, check: Check, what: str, tenant: str) -> Sequence[CheckProblem]:
        owner = Owner("", what, 1, 1, tenant)
        async with self._turns.slot(tenant), self._sandboxes.lease(Limits(), owner) as sandbox:
            outcome = await sandbox.check(check, timeout_s=_CHECK_TIMEOUT_S)
        if not isinstance(outcome, Broken):
            return outcome
        if outcome.status is AttemptStatus.LOST:
            raise EngineUnavailable(f"The sandbox for the check was lost: {outcome.failure.message}")
        if outcome.status is AttemptStatus.TIMEOUT:
            message = f"Executing the code's module level took longer than {_CHECK_TIMEOUT_S} s."
        else:
            message = f"Executing the code's module level did not end well: {outcome.failure.message}"
        return [CheckProblem(0, f"check_{outcome.status}", message, None, None)]
