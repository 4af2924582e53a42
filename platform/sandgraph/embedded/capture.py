"""Makes a module of its own out of a live function: its source, and all that its source refers to."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

from sandgraph.embedded.imports import GIVEN, import_of, is_shared, submodules
from sandgraph.embedded.literals import expression, literal, reduced
from sandgraph.embedded.locate import cells_of, defaults_of, functions_of, is_literal, locate_class, locate_function
from sandgraph.embedded.source import LAMBDA, File, Located, Uncapturable, names_used, shifted

_INDENT = "    "

_CONTAINERS = (list, tuple, set, frozenset, dict)


def capture(function: Callable[..., Any], name: str) -> str:
    """Return the source of a module that defines the function under a name, with whatever it refers to.

    Functions, classes and constants of the program's own are copied, with the values they have now; what the standard
    library or an installed package has is imported. A decorated function is what its decorators made of it.

    Args:
        function: A function or lambda; async ones as well.
        name: An identifier.

    Raises:
        Uncapturable: Its source, or something it refers to, cannot be taken along; the message names both.
    """
    raw = inspect.unwrap(function)
    if not isinstance(raw, FunctionType) or inspect.ismethod(function):
        kind = type(function).__name__
        raise Uncapturable(f"it is a {kind}; hand over a function, made with def or lambda, that calls it")
    module = _Module()
    module.refer(function, name, None)
    module.drain()
    return module.text()


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where the names in a definition are looked up."""

    file: File
    captured: Mapping[str, object]
    globals: Mapping[str, object]

    def look_up(self, name: str) -> object:
        for names in (self.captured, self.globals, vars(builtins)):
            if name in names:
                return names[name]
        raise Uncapturable(f"it uses {name!r}, which has no value here")

    def is_builtin(self, name: str) -> bool:
        return name not in self.captured and name not in self.globals


class _Module:
    """A module in the making.

    Each object in it has one name, which is the one it is referred to by unless another object has that already. Where
    it has, and where a closure's variable is meant, the definition that refers to it is put into a function that binds
    the name locally: so no text is ever changed but the name of a definition and its defaults.
    """

    def __init__(self) -> None:
        self._imports: list[str] = []
        self._definitions: list[str] = []
        self._objects: dict[str, object] = {}
        self._names: dict[int, str] = {}
        self._aliases: dict[str, list[str]] = {}
        self._trails: dict[str, tuple[str, ...]] = {}
        self._trail: tuple[str, ...] = ()
        self._pending: list[str] = []
        self._begun: set[str] = set()
        self._done: set[str] = set()

    def text(self) -> str:
        head = ["from __future__ import annotations", *sorted(set(self._imports))]
        return "\n".join(head) + "\n\n\n" + "\n\n\n".join(self._definitions) + "\n"

    def refer(self, value: object, wish: str, scope: _Scope | None) -> str:
        """Return the name of an object in the module; it is defined by `drain`, or here if an import does."""
        name = self._names.get(id(value))
        if name is None:
            name = self._free(wish)
            self._names[id(value)] = name
            self._objects[name] = value
            self._trails[name] = (*self._trail, wish)
            statement = import_of(name, value, scope.file.tree if scope else None)
            if statement is not None:
                self._imports.append(statement)
                self._begun.add(name)
                self._done.add(name)
        if name not in self._begun:
            self._pending.append(name)
        return name

    def drain(self) -> None:
        """Define what was referred to."""
        while self._pending:
            name = self._pending.pop(0)
            if name not in self._begun:
                self._begun.add(name)
                with self._on_the_way_to(name):
                    self._definitions.append(self._definition(self._objects[name], name))
                self._done.add(name)
                self._add_aliases(name)

    def _add_aliases(self, name: str) -> None:
        if name in self._done:
            self._definitions += self._aliases.pop(name, [])

    def _require(self, value: object, wish: str, scope: _Scope | None) -> str:
        """Return an object's name; it, and what it refers to, are defined above whatever is being defined."""
        name = self.refer(value, wish, scope)
        outer, self._pending = self._pending, [name]
        self.drain()
        self._pending = outer
        if name not in self._done:
            raise Uncapturable(
                f"it and {wish!r} refer to each other, and {wish!r} has two meanings; rename one of them"
            )
        return name

    def _free(self, wish: str) -> str:
        name = wish
        while name in self._objects:
            name += "_"
        return name

    @contextmanager
    def _on_the_way_to(self, name: str) -> Iterator[None]:
        before, self._trail = self._trail, self._trails[name]
        try:
            yield
        except Uncapturable as error:
            # The innermost way is the whole way.
            if len(self._trail) > 1 and not error.args[0].startswith("through "):
                error.args = (f"through {' → '.join(map(repr, self._trail[1:]))}: {error}",)
            raise
        finally:
            self._trail = before

    def _definition(self, value: object, name: str) -> str:
        wish = self._trail[-1]
        home = str(getattr(value, "__module__", "")) if callable(value) else ""
        if home.partition(".")[0] in {"sandgraph", "sandgraph_runner"}:
            raise Uncapturable(f"in a sandbox, sandgraph has {', '.join(GIVEN)} and no {wish!r}")
        raw = inspect.unwrap(value) if callable(value) else None
        if isinstance(raw, FunctionType) and raw is not value and _is_foreign(value):
            return self._decorated(value, raw, name)
        if isinstance(value, FunctionType):
            return self._function(value, name)
        if isinstance(value, type):
            return self._class(value, name)
        if isinstance(value, ModuleType):
            raise Uncapturable(f"no sandbox has the module {value.__name__!r}; import what is used of it by name")
        text = literal(value, self._element) if isinstance(value, _CONTAINERS) else self._expression(value)
        if text is None:
            what = f"{wish!r}, of the type {type(value).__name__}, cannot be written as source"
            raise Uncapturable(f"{what}; make it inside the function, or pass it in the state")
        return f"{name} = {text}"

    def _function(self, function: FunctionType, name: str) -> str:
        located = locate_function(function)
        return self._bound(located, name, function, self._scope(located, function))

    def _class(self, cls: type, name: str) -> str:
        located = locate_class(cls)
        located.keep_decorators(len(located.decorators))
        methods = list(functions_of(cls))
        cells = {key: value for method in methods for key, value in cells_of(method).items()}
        names = methods[0].__globals__ if methods else vars(sys.modules[cls.__module__])
        return self._bound(located, name, cls, _Scope(located.file, cells, names))

    def _decorated(self, value: object, raw: FunctionType, name: str) -> str:
        """Define what a decorator of the standard library or of a package made, by decorating again."""
        located = locate_function(raw)
        layers, each = 0, value
        while each is not raw:
            layers, each = layers + 1, getattr(each, "__wrapped__", raw)
        kept = 0
        for decorator in reversed(located.decorators):
            if layers:
                kept += 1
                layers -= not _is_tool(decorator)
        if layers:
            raise Uncapturable(f"{raw.__name__!r} was wrapped, but not by a decorator above its def")
        located.keep_decorators(kept)
        return self._bound(located, name, value, self._scope(located, raw))

    def _scope(self, located: Located, function: FunctionType) -> _Scope:
        """Write a function's defaults as they are, and return where the names in its definition are looked up."""
        scope = _Scope(located.file, cells_of(function), function.__globals__)
        given: dict[str, object] = {}
        for argument, node, value in defaults_of(located, function):
            if not is_literal(node):
                text = literal(value)
                if text is None:
                    text = self._require(value, node.id if isinstance(node, ast.Name) else argument, scope)
                    given[text] = value
                located.replace(node, text)
        return replace(scope, captured={**given, **scope.captured})

    def _bound(self, located: Located, name: str, value: object, scope: _Scope) -> str:
        """Return a definition in which every name means what it means where it was written."""
        text = located.text()
        used = names_used(text, scope.captured)
        own = [each for each in sorted(used.at_once | used.later) if scope.look_up(each) is value]
        before = [line for each in sorted(used.at_once - {*own}) if (line := self._bind(each, scope, is_at_once=True))]
        before += [line for each in sorted(used.later - {*own}) if (line := self._bind(each, scope, is_at_once=False))]
        for each in used.at_once | used.later:
            module = scope.look_up(each)
            if isinstance(module, ModuleType) and self._names.get(id(module)) == module.__name__ == each:
                self._imports += (f"import {path}" for path in submodules(each, module, ast.parse(text)))
        # Inside of a function that binds it, the name may be needed for what it meant where this was written.
        inner = self._free(f"_{name}") if any(line.startswith(f"{name} = ") for line in before) else name
        located.rename(inner)
        text = located.text()
        if isinstance(located.node, ast.Lambda):
            text = f"{inner} = {text}"
        after = [f"{each} = {inner}" for each in own if each != inner]
        if before or after:
            lines = [*before, shifted(text, "", _INDENT)[len(_INDENT) :], *after, f"return {inner}"]
            maker = self._free(f"_make_{name}")
            self._objects[maker] = None
            body = "\n".join(_INDENT + line for line in lines)
            text = f"def {maker}():\n{body}\n\n\n{name} = {maker}()"
        own_name = getattr(value, "__name__", name)
        is_lambda = isinstance(located.node, ast.Lambda)
        return text if own_name == (LAMBDA if is_lambda else inner) else f"{text}\n\n\n{name}.__name__ = {own_name!r}"

    def _bind(self, name: str, scope: _Scope, *, is_at_once: bool) -> str | None:
        """Let a name mean its object: in the module, or else by a line that goes before the definition."""
        value = scope.look_up(name)
        if scope.is_builtin(name):
            is_free = self._objects.setdefault(name, value) is value
            return None if is_free else f"from builtins import {name}"
        text = literal(value)
        if text is not None:
            if name in scope.captured or self._objects.get(name, value) is not value:
                return f"{name} = {text}"
            if name not in self._objects:
                self._objects[name] = value
                self._definitions.append(f"{name} = {text}")
            return None
        defined = self._require(value, name, scope) if is_at_once else self.refer(value, name, scope)
        if defined == name:
            return None
        if name not in self._objects:
            self._objects[name] = value
            self._aliases.setdefault(defined, []).append(f"{name} = {defined}")
            self._add_aliases(defined)
            return None
        return f"{name} = {self._require(value, name, scope)}"

    def _element(self, value: object) -> str | None:
        """Return an expression for what a list, tuple, set or dict contains."""
        text = self._expression(value)
        name = getattr(value, "__name__", None)
        if text is None and isinstance(name, str):
            return self._require(value, name if name.isidentifier() else "_element", None)
        return text

    def _expression(self, value: object) -> str | None:
        """Return an expression that makes an object again: an enumeration's member, or a value of a shared class."""
        if (text := expression(value)) is not None:
            return text
        if isinstance(value, Enum):
            made: tuple[type, tuple[object, ...]] | None = (type(value), (value.value,))
        else:
            made = reduced(value) if is_shared(type(value).__module__) else None
        if made is None:
            return None
        texts = [literal(each, self._expression) for each in made[1]]
        if None in texts:
            return None
        return f"{self._require(made[0], made[0].__name__, None)}({', '.join(map(str, texts))})"


def _is_foreign(value: object) -> bool:
    """Tell whether something that wraps a function is not the program's own."""
    return not isinstance(value, FunctionType) or is_shared(str(value.__globals__.get("__name__")))


def _is_tool(decorator: ast.expr) -> bool:
    """Tell whether a decorator gives its function back as it is."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")) == "tool"
