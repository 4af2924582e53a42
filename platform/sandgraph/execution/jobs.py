"""Turns the scheduler's StartAttempt into the job a sandbox gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandgraph.errors import Conflict
from sandgraph.execution.transport import Assignment
from sandgraph.model.commands import StartAttempt
from sandgraph.model.graph import Condition, Graph, NodeType
from sandgraph.model.topology import Topology
from sandgraph.settings import Settings
from sandgraph.store.records import CodeVersion
from sandgraph_runner import protocol

#: Bytes that an outcome may have beyond the state's: for each key its operation's fields, and the conditions' answers.
_OUTCOME_OVERHEAD = 64 * 1024
_OPERATION_OVERHEAD = 40


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run pinned when it was accepted: graph, topology, and the code behind every name.

    Attributes:
        run_id: The run.
        graph: Its graph version.
        topology: That graph's shape.
        functions: Registered functions by name.
        tools: Registered tools by name.
    """

    run_id: str
    graph: Graph
    topology: Topology
    functions: Mapping[str, CodeVersion]
    tools: Mapping[str, CodeVersion]

    def assignment(self, command: StartAttempt, settings: Settings) -> Assignment:
        """Return what the worker gets for an attempt."""
        key = command.key
        node = self.topology.nodes[key.node]
        condition = self._condition(node.condition) if node.condition else None
        # A loop that only counts goes on whatever its edges would say: they are asked in its last iteration.
        goes_on = node.type is NodeType.LOOP and condition is None and not command.is_last
        edges = () if goes_on else self.topology.outgoing[node.name]
        asked = (self.graph.edges[i].condition for i in edges)
        job = protocol.Job(
            function=self._source(node.function) if node.function else None,
            tools=tuple(protocol.Source(tool.name, tool.code) for tool in self.tools.values()),
            before=condition if command.is_entry else None,
            again=condition,
            is_last=command.is_last,
            after=tuple(self._condition(each) for each in asked if each),
            run_id=self.run_id,
            node=key.node,
            iteration=key.iteration,
            attempt=command.attempt,
            idempotency_key=f"{self.run_id}/{key.node}/{key.iteration}",
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
            self.graph.isolation,
            self.graph.runtime,
        )

    def _source(self, name: str) -> protocol.Source:
        version = self.functions.get(name)
        if version is None:
            raise Conflict(f"The run has no function {name!r}.", code="function_not_pinned")
        return protocol.Source(version.name, version.code)

    def _condition(self, condition: Condition) -> protocol.Condition:
        if condition.function is not None:
            return protocol.Condition(function=self._source(condition.function))
        return protocol.Condition(expression=condition.expression)
