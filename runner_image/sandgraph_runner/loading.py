"""Makes modules of submitted sources, such that tracebacks, `inspect`, dataclasses and pickle work in them."""

from __future__ import annotations

import linecache
import sys
from types import CodeType, ModuleType

from sandgraph_runner.lean import Any, Callable, Mapping, Self
from sandgraph_runner.protocol import Source
from sandgraph_runner.state import WorkflowState
from sandgraph_runner.tools import get_global_registry, tool, tools

#: What every submitted module finds among its globals, and what ``from sandgraph import …`` gives in a sandbox.
GIVEN: Mapping[str, object] = {
    "WorkflowState": WorkflowState,
    "tool": tool,
    "tools": tools,
    "get_global_registry": get_global_registry,
}

# Taken before submitted code could replace them.
_compile, _exec, _eval = compile, exec, eval


class Loader:
    """Loads each source once.

    Use it as a context manager: at its end what it left in ``sys.modules`` and `linecache` is gone, for callers whose
    process lives on.

    Args:
        callables: Live functions, by name, that stand in for sources of that name.
    """

    def __init__(self, callables: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self._callables = dict(callables or {})
        self._modules: dict[tuple[str, Source], ModuleType] = {}
        self._filenames: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for module in self._modules.values():
            sys.modules.pop(module.__name__, None)
        for filename in self._filenames:
            linecache.cache.pop(filename, None)

    def function(self, source: Source, kind: str = "function") -> Callable[..., Any]:
        """Return the callable that a source defines, executing its module level at the first call.

        Raises:
            BaseException: Whatever compiling and executing the source raises.
            LookupError: It defines no such name.
            TypeError: What it defines is not callable.
        """
        if source.name in self._callables:
            return self._callables[source.name]
        module = self._modules.get((kind, source))
        if module is None:
            module = self.execute(source, self.compile(source, kind), kind)
        if source.name not in vars(module):
            raise LookupError(f"the code of the {kind} {source.name!r} defines no {source.name!r}")
        found = vars(module)[source.name]
        if not callable(found):
            raise TypeError(f"{source.name!r} is not callable: it is of the type {type(found).__name__}")
        return found  # type: ignore[no-any-return]

    def compile(self, source: Source, kind: str = "function") -> CodeType:
        """Compile a source, its lines known to tracebacks and `inspect`.

        Raises:
            SyntaxError, ValueError, RecursionError, MemoryError: It does not compile.
        """
        # Editors on Windows put a byte order mark first; in a file Python would skip it.
        return self._compile(source.code.removeprefix("\ufeff"), filename_of(source, kind), "exec")

    def compile_expression(self, expression: str) -> CodeType:
        """Compile a condition's expression.

        Raises:
            SyntaxError, ValueError, RecursionError, MemoryError: It does not compile.
        """
        return self._compile(expression.strip(" \t"), "<condition>", "eval")

    def execute(self, source: Source, code: CodeType, kind: str = "function") -> ModuleType:
        """Run the module level of a compiled source and return the module.

        Raises:
            BaseException: Whatever the source raises.
        """
        module = ModuleType(_free_name(f"sandgraph_{kind}_{source.name}"))
        module.__file__ = filename_of(source, kind)
        vars(module).update(GIVEN)
        sys.modules[module.__name__] = module
        try:
            _exec(code, vars(module))
        except BaseException:
            sys.modules.pop(module.__name__, None)
            raise
        self._modules[kind, source] = module
        return module

    def evaluate(self, code: CodeType, names: Mapping[str, object]) -> object:
        """Evaluate a compiled expression over these names and the builtins.

        Raises:
            BaseException: Whatever the expression raises.
        """
        return _eval(code, {"__name__": "sandgraph_condition", **names})

    def _compile(self, text: str, filename: str, mode: str) -> CodeType:
        # No modification time: `linecache.checkcache` then leaves the entry alone.
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        self._filenames.add(filename)
        code: CodeType = _compile(text, filename, mode, dont_inherit=True)
        return code


def filename_of(source: Source, kind: str = "function") -> str:
    """Return the name that tracebacks show for a source."""
    return f"<{kind} {source.name}>"


def _free_name(wished: str) -> str:
    name, number = wished, 1
    while name in sys.modules:
        number += 1
        name = f"{wished}_{number}"
    return name
