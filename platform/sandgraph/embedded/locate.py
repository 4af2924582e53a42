"""Finds where functions and classes were defined, and what was bound to them there."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import accumulate
from types import CodeType, FunctionType

from sandgraph.embedded.source import LAMBDA, File, Located, Uncapturable


def locate_function(function: FunctionType) -> Located:
    """Find the definition of a function or lambda.

    Raises:
        Uncapturable: Its source is not to be found.
    """
    code = function.__code__
    file = file_of(code.co_filename, function.__globals__)
    if code.co_name == LAMBDA:
        return Located(file, _lambda(file, code))
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if first == code.co_firstlineno:
                return Located(file, node)
    raise Uncapturable(f"its source is not at line {code.co_firstlineno} of {code.co_filename}")


def locate_class(cls: type) -> Located:
    """Find the definition of a class.

    Raises:
        Uncapturable: Its source is not to be found.
    """
    module = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    lines = [method.__code__.co_firstlineno for method in functions_of(cls)]
    names = [method.__code__.co_filename for method in functions_of(cls)]
    file = file_of(names[0] if names else str(module.get("__file__")), module)
    found = [node for name, node in _classes(file.tree, "") if name == cls.__qualname__]
    if not found:
        raise Uncapturable("its source is not to be found")
    # Of several in one place, such as the branches of an `if`, the one that holds its methods; else the last one.
    holders = [node for node in found if any(node.lineno <= line <= (node.end_lineno or 0) for line in lines)]
    return Located(file, (holders or found)[-1])


def functions_of(cls: type) -> Iterator[FunctionType]:
    """Yield the functions that a class's own text defines; those made for it, as a dataclass has, are left out."""
    for value in vars(cls).values():
        for each in (value, getattr(value, "__func__", None), getattr(value, "fget", None)):
            function = inspect.unwrap(each) if callable(each) else None
            if isinstance(function, FunctionType) and function.__code__.co_qualname.startswith(f"{cls.__qualname__}."):
                yield function


def cells_of(function: FunctionType) -> dict[str, object]:
    """Return the variables of enclosing functions that a function captured, as far as they have values."""
    found: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def defaults_of(located: Located, function: FunctionType) -> Iterator[tuple[str, ast.expr, object]]:
    """Yield name, expression and value of each default, from what the function has and its definition says."""
    if isinstance(located.node, ast.ClassDef):
        return
    arguments = located.node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    written = zip(reversed(positional), reversed(arguments.defaults), strict=False)
    for (argument, node), value in zip(written, reversed(function.__defaults__ or ()), strict=False):
        yield argument.arg, node, value
    for argument, optional in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if optional is not None and argument.arg in (function.__kwdefaults__ or {}):
            yield argument.arg, optional, (function.__kwdefaults__ or {})[argument.arg]


def is_literal(node: ast.expr) -> bool:
    """Tell whether an expression is made of constants."""
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def file_of(filename: str, module: Mapping[str, object]) -> File:
    """Return the parsed source behind the name of a file, a notebook's cell, or whatever `linecache` knows.

    Raises:
        Uncapturable: There is none.
    """
    linecache.checkcache(filename)
    text = "".join(linecache.getlines(filename, dict(module)))
    if not text:
        raise Uncapturable(f"it was defined in {filename}, of which there is no source (put it into a file)")
    try:
        return _parsed(text)
    except SyntaxError:
        raise Uncapturable(f"the source in {filename} does not compile any more") from None


@lru_cache(maxsize=32)
def _parsed(text: str) -> File:
    data = text.encode()
    starts = accumulate((len(line) for line in data.splitlines(keepends=True)), initial=0)
    return File(ast.parse(text), data, tuple(starts))


def _lambda(file: File, code: CodeType) -> ast.Lambda:
    """Return the lambda that was compiled to this code: the innermost around its instructions' places."""
    nodes = [n for n in ast.walk(file.tree) if isinstance(n, ast.Lambda) and n.lineno == code.co_firstlineno]
    places = [
        (file.offset(line, column), file.offset(end_line, end_column))
        for line, end_line, column, end_column in code.co_positions()
        if line and end_line and column is not None and end_column
    ]
    found: list[tuple[int, ast.Lambda]] = []
    for node in nodes:
        first = file.offset(node.body.lineno, node.body.col_offset)
        last = file.offset(node.body.end_lineno, node.body.end_col_offset)
        if all(first <= begin and end <= last for begin, end in places):
            found.append((last - first, node))
    if not places and len(found) > 1:
        # A constant body, in some Pythons, or `python -X no_debug_ranges`: those that read the same will do.
        found = [(size, node) for size, node in found if _reads_as(_compiled(node), code)]
    if not found or (not places and len({ast.dump(node) for _, node in found}) > 1):
        raise Uncapturable("it cannot be told from the other lambdas on its line (give it a name with def)")
    return min(found, key=lambda each: each[0])[1]


def _compiled(node: ast.Lambda) -> CodeType:
    constants = compile(ast.Expression(node), "<lambda>", "eval", dont_inherit=True).co_consts
    return next(each for each in constants if isinstance(each, CodeType) and each.co_name == LAMBDA)


def _reads_as(one: CodeType, other: CodeType) -> bool:
    return (one.co_code, repr(one.co_consts), one.co_names) == (other.co_code, repr(other.co_consts), other.co_names)


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            inner = f"{prefix}{child.name}."
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{prefix}{child.name}.<locals>."
        yield from _classes(child, inner)
