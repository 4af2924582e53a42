"""Sandgraph runs graphs of Python functions that nobody has to trust. This is its Python API.

See docs/python-api.md. Every module of the package imports this one first, so none may import from it.
"""

from sandgraph.embedded.engine import WorkflowEngine
from sandgraph.embedded.graph import WorkflowGraph
from sandgraph.errors import (
    ConfigurationError,
    Conflict,
    EngineUnavailable,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    Problem,
    QueueFull,
    QuotaExceeded,
    SandboxLost,
    SandgraphError,
    Unavailable,
)
from sandgraph.model.graph import NodeType
from sandgraph_runner.state import WorkflowState
from sandgraph_runner.tools import get_global_registry, tool, tools

__all__ = [
    "ConfigurationError",
    "Conflict",
    "EngineUnavailable",
    "InvalidInput",
    "NodeType",
    "NotFound",
    "PayloadTooLarge",
    "PreconditionFailed",
    "Problem",
    "QueueFull",
    "QuotaExceeded",
    "SandboxLost",
    "SandgraphError",
    "Unavailable",
    "WorkflowEngine",
    "WorkflowGraph",
    "WorkflowState",
    "__version__",
    "get_global_registry",
    "tool",
    "tools",
]

__version__ = "0.1.0"
