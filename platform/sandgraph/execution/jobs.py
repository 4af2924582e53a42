"""Turns the scheduler's StartAttempt into the job a sandbox gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandgraph.errors import Conflict
from sandgraph.execution.transport import Assignment
from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.model.commands import StartAttempt
from sandgraph.model.graph import Condition, NodeType
from sandgraph.model.progress import Blueprint
from sandgraph.model.run import NodeRunKey
from sandgraph.settings import Settings
from sandgraph.store.records import CodeVersion
from sandgraph.telemetry.trace import SpanRef, attempt_span
from sandgraph_runner import protocol

#: Bytes that an outcome may have beyond the state's: for each key its operation's fields, and the conditions' answers.
_OUTCOME_OVERHEAD = 64 * 1024
_OPERATION_OVERHEAD = 40


class _Tools:
    """The tools of the last run, which are most often the next one's too; jobs then have them in common."""

    def __init__(self) -> None:
        self._known: tuple[list[CodeVersion], tuple[protocol.Source, ...]] = [], ()

    def sources(self, tools: Mapping[str, CodeVersion]) -> tuple[protocol.Source, ...]:
        versions = list(tools.values())
        known, sources = self._known
        if versions != known:
            sources = tuple(protocol.Source(tool.name, tool.code) for tool in versions)
            self._known = versions, sources
        return sources


_TOOLS = _Tools()


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run pinned when it was accepted: graphs, their topologies, and the code behind every name.

    Attributes:
        run_id: The run.
        own: Its graph version.
        functions: Registered functions by name.
        tools: Registered tools by name.
        graphs: The graph versions that subgraphs in it run, at any depth, by their ids.
        tenant: Whose it is.
        trace: Its span; None where it is of no trace.
        tool_sources: The tools as every job gets them.
    """

    run_id: str
    own: Blueprint
    functions: Mapping[str, CodeVersion]
    tools: Mapping[str, CodeVersion]
    graphs: Mapping[str, Blueprint] = field(default_factory=dict)
    tenant: str = DEFAULT_TENANT
    trace: SpanRef | None = None
    tool_sources: tuple[protocol.Source, ...] = field(init=False)
    _sources: dict[str, protocol.Source] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make once what every job has."""
        object.__setattr__(self, "tool_sources", _TOOLS.sources(self.tools))

    def blueprint(self, graph_id: str | None) -> Blueprint:
        """Return a graph that the run is in; None stands for its own."""
        return self.own if graph_id is None else self.graphs[graph_id]

    def assignment(self, command: StartAttempt, settings: Settings) -> Assignment:
        """Return what the worker gets for an attempt."""
        key = command.key
        blueprint = self.blueprint(command.graph_id)
        node = blueprint.topology.nodes[key.node]
        is_item = command.item is not None
        condition = self._condition(node.condition) if node.condition else None
        # A loop that only counts goes on whatever its edges would say: they are asked in its last iteration.
        goes_on = node.type is NodeType.LOOP and condition is None and not command.is_last
        edges = () if goes_on or is_item else blueprint.topology.outgoing[node.name]
        asked = (blueprint.graph.edges[i].condition for i in edges)
        # A map's own attempt is for what its edges ask; its function runs for its items.
        runs = not command.asks_only and (node.type is not NodeType.MAP or is_item)
        job = protocol.Job(
            function=self._source(node.function) if node.function and runs else None,
            tools=self.tool_sources,
            before=condition if command.is_entry else None,
            again=condition,
            is_last=command.is_last,
            after=tuple(self._condition(each) for each in asked if each),
            item_key=node.items if is_item else None,
            item_index=command.item or 0,
            run_id=self.run_id,
            node=key.node,
            iteration=key.iteration,
            attempt=command.attempt,
            idempotency_key=idempotency_key(self.run_id, key),
            scope=key.scope,
            max_output_bytes=node.limits.output_kb * 1024,
            max_result_bytes=settings.max_state_kb * 1024
            + settings.max_state_keys * _OPERATION_OVERHEAD
            + _OUTCOME_OVERHEAD,
            max_depth=settings.max_state_depth,
            max_keys=settings.max_state_keys,
            max_values=settings.max_state_values,
        )
        return Assignment(
            self.run_id,
            key,
            command.attempt,
            job,
            command.view.state,
            node.limits,
            settings.max_state_kb * 1024,
            settings.max_state_values,
            blueprint.graph.isolation,
            blueprint.graph.runtime,
            self.tenant,
            None if self.trace is None else attempt_span(self.trace, self.run_id, key.path, command.attempt),
        )

    def _source(self, name: str) -> protocol.Source:
        source = self._sources.get(name)
        if source is None:
            version = self.functions.get(name)
            if version is None:
                raise Conflict(f"The run has no function {name!r}.", code="function_not_pinned")
            source = self._sources[name] = protocol.Source(version.name, version.code)
        return source

    def _condition(self, condition: Condition) -> protocol.Condition:
        if condition.function is not None:
            return protocol.Condition(function=self._source(condition.function))
        return protocol.Condition(expression=condition.expression)


def idempotency_key(run_id: str, key: NodeRunKey) -> str:
    """Return what is the same for every attempt of a node run, and different for any two of them."""
    # A node's name may look like a path; a path's last part is never a number alone.
    return f"{run_id}/{key.path}" if key.scope else f"{run_id}/{key.node}/{key.iteration}"
