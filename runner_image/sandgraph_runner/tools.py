"""Tools: registered helper functions that node functions call by name."""

from __future__ import annotations

from contextvars import ContextVar

from sandgraph_runner.lean import Any, Callable, Mapping, TypeVar, overload

#: What a tool is: takes and returns anything.
Function = Callable[..., Any]

_F = TypeVar("_F", bound=Function)


class _Entry:
    """A tool that is there."""

    __slots__ = ("description", "function")

    def __init__(self, function: Function, description: str = "") -> None:
        self.function = function
        self.description = description


#: Tools by name; None stands for one that the job came with, until it is used.
_Entries = dict[str, _Entry | None]


class ToolRegistry:
    """Functions by name."""

    def __init__(self) -> None:
        self._own: _Entries = {}

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
        entries = self._entries()
        if name not in entries:
            known = ", ".join(self.names()) or "none"
            raise LookupError(f"there is no tool {name!r}; registered: {known}")
        entry = entries[name]
        if entry is None:
            entry = entries[name] = _Entry(self._load(name))
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
        told = {name: entry.description if entry else "" for name, entry in entries.items()}
        return [{"name": name, "description": told[name]} for name in sorted(told)]

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def _entries(self) -> _Entries:
        return self._own

    def _load(self, name: str) -> Function:
        """Return a tool of the job's that was not used before."""
        raise LookupError(name)


class _JobTools:
    """What a job finds in the registry, and how it gets the tools that it came with."""

    __slots__ = ("entries", "loaders")

    def __init__(self, entries: _Entries, loaders: Mapping[str, Callable[[], Function]]) -> None:
        self.entries = entries
        self.loaders = loaders


class _GlobalRegistry(ToolRegistry):
    """The process's registry; while a job runs, that job's tools."""

    #: Where a sandbox's one job keeps its tools, for threads that it starts: they begin with an empty context.
    process_wide: _JobTools | None = None

    def _entries(self) -> _Entries:
        mine = self._mine()
        return self._own if mine is None else mine.entries

    def _load(self, name: str) -> Function:
        mine = self._mine()
        return super()._load(name) if mine is None else mine.loaders[name]()

    def _mine(self) -> _JobTools | None:
        mine = _JOB.get()
        return self.process_wide if mine is None else mine


_JOB: ContextVar[_JobTools | None] = ContextVar("sandgraph_tools", default=None)

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
        entries = {**tools._own, **dict.fromkeys(self._loaders)}  # noqa: SLF001 - ours
        self._token = _JOB.set(_JobTools(entries, self._loaders))

    def __exit__(self, *_: object) -> None:
        _JOB.reset(self._token)


def keep_for_threads() -> None:
    """Make the tools of the block around this call those of the whole process: for a sandbox, which runs one job."""
    _GlobalRegistry.process_wide = _JOB.get()
