"""The OCI runtimes that graphs may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sandgraph.model.graph import Graph
from sandgraph.settings import Settings

#: Of the problem and of the failure.
CODE = "runtime_not_allowed"


def runtimes_of(settings: Settings, facts: Mapping[str, object]) -> tuple[str, ...]:
    """Return the runtimes of a deployment, its own first.

    Args:
        settings: Of the deployment.
        facts: Of its sandboxes, started.
    """
    own = settings.runtime or facts.get("runtime")
    return tuple(dict.fromkeys([*([str(own)] if own else []), *settings.further_runtimes]))


def refusal(graph: Graph, allowed: Sequence[str]) -> str | None:
    """Return why a graph's runtime cannot be had; None if it can, or if the graph names none."""
    if graph.runtime is None or graph.runtime in allowed:
        return None
    may = f"a graph may name {' or '.join(map(repr, allowed))}" if allowed else "a graph may name none"
    return f"This deployment does not run {graph.runtime!r}: {may}."
