"""The source of one definition: what names it uses, and a copy that can be edited."""

from __future__ import annotations

import ast
import dis
import inspect
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from types import CodeType

#: What a definition's node can be.
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef

LAMBDA = "<lambda>"

#: Instructions that look a name up outside of functions.
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_STORE = "STORE_GLOBAL"


class Uncapturable(Exception):
    """Code that cannot be taken along; the message says why."""


@dataclass(frozen=True, slots=True)
class File:
    """A parsed source; nodes count lines from 1, and columns in bytes of UTF-8."""

    tree: ast.Module
    data: bytes
    line_starts: tuple[int, ...]

    def offset(self, line: int | None, column: int | None) -> int:
        """Return the place of a position in ``data``."""
        return self.line_starts[(line or 1) - 1] + (column or 0)


@dataclass(slots=True)
class Located:
    """A definition in its file, and the edits to be made to a copy of it.

    Attributes:
        file: That it is in.
        node: The definition.
        begin: Where the copy begins: at first without decorators.
        edits: Begin, end and replacement.
    """

    file: File
    node: Definition
    begin: int = field(init=False)
    edits: list[tuple[int, int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin at the ``def``, ``class`` or ``lambda``."""
        self.begin = self.file.offset(self.node.lineno, self.node.col_offset)

    @property
    def decorators(self) -> list[ast.expr]:
        """The decorators, outermost first."""
        return [] if isinstance(self.node, ast.Lambda) else self.node.decorator_list

    def keep_decorators(self, number: int) -> None:
        """Let the copy have the last so many decorators."""
        if number:
            first = self.decorators[-number]
            self.begin = self.file.data.rindex(b"@", 0, self.file.offset(first.lineno, first.col_offset))

    def replace(self, node: ast.expr, text: str) -> None:
        """Put another expression in the place of one."""
        begin = self.file.offset(node.lineno, node.col_offset)
        self.edits.append((begin, self.file.offset(node.end_lineno, node.end_col_offset), text.encode()))

    def rename(self, name: str) -> None:
        """Let the copy define another name; a lambda has none."""
        if isinstance(self.node, ast.Lambda):
            return
        old = self.node.name.encode()
        keyword = b"class" if isinstance(self.node, ast.ClassDef) else b"def"
        at = self.file.data.index(keyword, self.file.offset(self.node.lineno, self.node.col_offset))
        begin = self.file.data.index(old, at + len(keyword))
        self.edits.append((begin, begin + len(old), name.encode()))

    def text(self) -> str:
        """Return the copy, edited, with no indentation; a lambda in parentheses."""
        data, edited, last = self.file.data, bytearray(), self.begin
        for begin, end, replacement in sorted(self.edits):
            edited += data[last:begin] + replacement
            last = end
        edited += data[last : self.file.offset(self.node.end_lineno, self.node.end_col_offset)]
        if isinstance(self.node, ast.Lambda):
            return f"({edited.decode()})"
        margin = data[data.rfind(b"\n", 0, self.begin) + 1 : self.begin]
        return shifted(edited.decode(), margin.decode(), "")


def shifted(text: str, old: str, new: str) -> str:
    """Return a definition with another margin, its strings as they were.

    Args:
        text: Without the margin of its first line.
        old: The margin of its other lines.
        new: The margin that all lines shall have.
    """
    block = f"if 1:\n{old}{text}" if old else text
    above = 1 if old else 0
    inside: set[int] = set()
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)):
            inside.update(range(node.lineno - above, (node.end_lineno or 0) - above))
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if number == 0:
            lines[0] = new + line
        elif number not in inside and line.strip():
            lines[number] = new + (line[len(old) :] if line.startswith(old) else line.lstrip())
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a definition takes from outside of itself; those in annotations do not count.

    Attributes:
        at_once: Looked up when the definition is executed: a class's bases, a decorator.
        later: Looked up when what it defines is called.
    """

    at_once: frozenset[str]
    later: frozenset[str]


def names_used(text: str, captured: Container[str]) -> Names:
    """Return the names that a definition's text uses.

    Args:
        text: Of the definition.
        captured: Names of the variables of enclosing functions that it uses.
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Nonlocal) and any(name in captured for name in node.names):
            # On its own the text has no enclosing function, and would not compile.
            node.__class__ = ast.Global  # type: ignore[assignment]
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.copy_location(ast.Constant(None), node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    code = compile(tree, "<source>", "exec", dont_inherit=True)
    found = [(n, is_at_once) for n, is_at_once, op in _used(code, is_at_once=True) if op != _STORE or n in captured]
    at_once = frozenset(name for name, is_at_once in found if is_at_once)
    return Names(at_once, frozenset(name for name, _ in found) - at_once)


def _used(code: CodeType, *, is_at_once: bool) -> Iterator[tuple[str, bool, str]]:
    instructions = list(dis.get_instructions(code))
    stored = {each.argval for each in instructions if each.opname == "STORE_NAME"}
    for each in instructions:
        # Names like `__name__` every module has of its own; others, like `.0`, are the compiler's.
        name = str(each.argval)
        is_plain = name.isidentifier() and not (name.startswith("__") and name.endswith("__"))
        is_own = each.opname == "LOAD_NAME" and name in stored
        if is_plain and not is_own and (each.opname in _LOADS or each.opname == _STORE):
            yield name, is_at_once, each.opname
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            # The body of a class is executed with it; so is a comprehension, where it has code of its own.
            is_body = not constant.co_flags & inspect.CO_OPTIMIZED
            is_comprehension = constant.co_name.startswith("<") and constant.co_name != LAMBDA
            yield from _used(constant, is_at_once=is_at_once and (is_body or is_comprehension))
