"""Tools: registered helper functions that node functions call by name."""

from __future__ import annotations

from contextvars import ContextVar

from sandgraph_runner.lean import Any, Callable, Mapping, TypeVar, overload

#: What a tool is: takes and returns anything.
Function = Callable[..., Any]

_F = TypeVar("_F", bound=Function)


class _Entry:
    """A tool: its function, or how to get it."""

    __slots__ = ("description", "function", "load")

    def __init__(
        self, function: Function | None, load: Callable[[], Function] | None = None, description: str = ""
    ) -> None:
        self.function = function
        self.load = load
        self.description = description


class ToolRegistry:
    """Functions by name."""

    def __init__(self) -> None:
        self._own: dict[str, _Entry] = {}

    def add(self, fn: Function, name: str | None = None, description: str | None = None) -> None:
        """Register a function under its own name or another; a name that is taken is replaced.

        Args:
            fn: The function.
            name: Instead of the function's own.
            description: Instead of its docstring's first line.

        Raises:
            TypeError: It is not callable, or it has no name and none is given.
        """
        if not callable(fn):
            raise TypeError(f"a tool is a function, not {type(fn).__name__}")
        known = name or getattr(fn, "__name__", None)
        if not isinstance(known, str):
            raise TypeError("this tool has no name of its own: give it one")
        if description is None:
            description = next(iter((getattr(fn, "__doc__", None) or "").strip().splitlines()), "")
        self._entries()[known] = _Entry(fn, description=description)

    def get(self, name: str) -> Function:
        """Return the function registered under a name, loading its code where that is not done yet.

        Raises:
            LookupError: There is none; the message lists the names there are.
        """
        entry = self._entries().get(name)
        if entry is None:
            known = ", ".join(self.names()) or "none"
            raise LookupError(f"there is no tool {name!r}; registered: {known}")
        if entry.function is None:
            assert entry.load is not None  # noqa: S101 - one of the two is always there
            entry.function = entry.load()
        return entry.function

    def invoke(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool with these arguments and return what it returns.

        Raises:
            LookupError: There is no tool of that name.
        """
        return self.get(name)(*args, **kwargs)

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._entries())

    def describe(self) -> list[dict[str, str]]:
        """Return name and description of every tool, sorted by name."""
        entries = self._entries()
        return [{"name": name, "description": entries[name].description} for name in sorted(entries)]

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def _entries(self) -> dict[str, _Entry]:
        return self._own


class _GlobalRegistry(ToolRegistry):
    """The process's registry; while a job runs, that job's tools."""

    #: Where a sandbox's one job keeps its tools, for threads that it starts: they begin with an empty context.
    process_wide: dict[str, _Entry] | None = None

    def _entries(self) -> dict[str, _Entry]:
        mine = _JOB.get()
        if mine is None:
            mine = self.process_wide
        return self._own if mine is None else mine


_JOB: ContextVar[dict[str, _Entry] | None] = ContextVar("sandgraph_tools", default=None)

#: The global registry: the registered tools inside a node, those of ``@tool`` elsewhere.
tools: ToolRegistry = _GlobalRegistry()


def get_global_registry() -> ToolRegistry:
    """Return the one registry that ``@tool`` fills."""
    return tools


@overload
def tool(fn: _F, /) -> _F: ...  # noqa: D103


@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[_F], _F]: ...  # noqa: D103, F811


def tool(  # noqa: F811 - the two before it are for type checkers
    fn: Function | None = None, /, *, name: str | None = None, description: str | None = None
) -> Function | Callable[[_F], _F]:
    """Register a function as a tool, as ``@tool`` or ``@tool(name=…, description=…)``; it stays what it was."""
    if fn is not None:
        tools.add(fn)
        return fn

    def register(function: _F) -> _F:
        tools.add(function, name, description)
        return function

    return register


class job_tools:  # noqa: N801 - to those who write it a function
    """Let the global registry hold these tools, on top of its own, inside the block and in no other thread or task.

    Args:
        loaders: By name, what returns the function; called at the tool's first use.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Function]]) -> None:
        self._loaders = loaders

    def __enter__(self) -> None:
        entries = {**tools._own, **{name: _Entry(None, load) for name, load in self._loaders.items()}}  # noqa: SLF001
        self._token = _JOB.set(entries)

    def __exit__(self, *_: object) -> None:
        _JOB.reset(self._token)


def keep_for_threads() -> None:
    """Make the tools of the block around this call those of the whole process: for a sandbox, which runs one job."""
    _GlobalRegistry.process_wide = _JOB.get()
