"""What is being worked on at this point, for every line that is logged meanwhile: run, node, tenant, request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, object] = MappingProxyType({})

# One variable that is replaced, and not one a field: to start an attempt sets it once.
_BOUND: ContextVar[Mapping[str, object]] = ContextVar("sandgraph_log_context", default=_NOTHING)


def bound() -> Mapping[str, object]:
    """Return the fields that lines logged at this point have."""
    return _BOUND.get()


def begin(**fields: object) -> None:
    """Say what this task works on, from now on and whatever it inherited; for tasks that do nothing else."""
    _BOUND.set(fields)


def add(**fields: object) -> None:
    """Add to what this task, and the tasks that it starts from now on, work on."""
    _BOUND.set({**_BOUND.get(), **fields})


@contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Add to what is being worked on, for the length of the block."""
    token = _BOUND.set({**_BOUND.get(), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)
