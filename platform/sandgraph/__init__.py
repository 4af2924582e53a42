"""Sandgraph runs graphs of Python functions that nobody has to trust. This is its Python API."""

from sandgraph.model.graph import NodeType
from sandgraph_runner.state import WorkflowState
from sandgraph_runner.tools import get_global_registry, tool, tools

__all__ = ["NodeType", "WorkflowState", "get_global_registry", "tool", "tools"]
