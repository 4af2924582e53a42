"""One form for a module before and after the code review: what is equal in it means the same.

Written without the code review's own helpers, so that a mistake in one is not made in the other.
"""

from __future__ import annotations

import ast
import warnings

JUMPS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
PURE = (ast.Constant, ast.Name, ast.List, ast.Tuple, ast.Dict, ast.Lambda, ast.UnaryOp)
DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.Call)


def canonical(source: str, before: str | None = None) -> str:
    """The canonical form of a module; `before` is the module it was made from.

    Gone are docstrings, imports, `pass`, `else` after a jump, and assignments to unused variables; constants that are
    new are replaced by their values; None and truth values are compared in one way, defaults of None that the body
    replaces are written as defaults, and handlers of everything catch the same.
    """
    constants = _new_constants(before, source) if before is not None else {}
    tree = _Canonical(constants).visit(_parse(source))
    while any(_drop_unused(function) for function in ast.walk(tree) if isinstance(function, FUNCTIONS)):
        pass
    return ast.dump(_Canonical({}).visit(tree))


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source.removeprefix("\ufeff"))


def _new_constants(before: str, after: str) -> dict[str, object]:
    old = {node.id for node in ast.walk(_parse(before)) if isinstance(node, ast.Name)}
    return {
        statement.targets[0].id: statement.value.value
        for statement in _parse(after).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
        and statement.targets[0].id not in old
    }


class _Canonical(ast.NodeTransformer):
    def __init__(self, constants: dict[str, object]) -> None:
        self.constants = constants

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.constants and isinstance(node.ctx, ast.Load):
            return ast.Constant(self.constants[node.id])  # type: ignore[arg-type]  # of a Constant, as it was
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            return node
        equal = isinstance(node.ops[0], ast.Eq)
        for operand, other in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
            if isinstance(other, ast.Constant) and other.value is None:
                return ast.Compare(node.left, [ast.Is() if equal else ast.IsNot()], node.comparators)
            if isinstance(other, ast.Constant) and isinstance(other.value, bool):
                return operand if other.value is equal else ast.UnaryOp(ast.Not(), operand)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        broad = isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
        if node.type is None or (broad and node.name is None):
            node.type = ast.Name("everything", ast.Load())
        return node

    def visit_Import(self, _node: ast.Import) -> ast.AST:
        return ast.Pass()

    def visit_ImportFrom(self, _node: ast.ImportFrom) -> ast.AST:
        return ast.Pass()

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                has_docstring = field == "body" and isinstance(
                    node, ast.Module | ast.ClassDef | FUNCTIONS[0] | FUNCTIONS[1]
                )
                setattr(node, field, self._flattened(block, has_docstring=has_docstring))
        if isinstance(node, FUNCTIONS):
            _restore_defaults(node)
        return node

    def _flattened(self, block: list[ast.stmt], *, has_docstring: bool) -> list[ast.stmt]:
        waiting = block[1:] if has_docstring and block and _is_text(block[0]) else list(block)
        flat = []
        while waiting:
            statement = waiting.pop(0)
            if isinstance(statement, ast.If) and statement.body and isinstance(statement.body[-1], JUMPS):
                waiting[:0] = statement.orelse
                statement.orelse = []
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            is_constant = isinstance(target, ast.Name) and target.id in self.constants
            if not isinstance(statement, ast.Pass) and not is_constant:
                flat.append(statement)
        return flat


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _restore_defaults(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    while function.body:
        guard = function.body[0]
        match guard:
            case ast.If(
                test=ast.Compare(left=ast.Name(id=name), ops=[ast.Is()]),
                body=[ast.Assign(targets=[ast.Name(id=assigned)], value=value)],
                orelse=[],
            ) if name == assigned and isinstance(value, DISPLAYS) and _restore(function.args, name, value):
                function.body.pop(0)
            case _:
                return


def _restore(arguments: ast.arguments, name: str, value: ast.expr) -> bool:
    positional = [*arguments.posonlyargs, *arguments.args]
    first = len(positional) - len(arguments.defaults)
    for defaults, named in ((arguments.defaults, positional[first:]), (arguments.kw_defaults, arguments.kwonlyargs)):
        for position, argument in enumerate(named):
            default = defaults[position]
            if argument.arg == name and isinstance(default, ast.Constant) and default.value is None:
                defaults[position] = value
                if isinstance(argument.annotation, ast.BinOp):
                    argument.annotation = argument.annotation.left
                return True
    return False


def _drop_unused(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    used: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            used.add(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            used.update(node.names)
    dropped = False
    pending: list[ast.AST] = [function]
    while pending:
        node = pending.pop()
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                kept = [survivor for statement in block for survivor in _without_unused(statement, used)]
                dropped |= kept != block
                setattr(node, field, kept)
                pending += [child for child in kept if not isinstance(child, (*FUNCTIONS, ast.ClassDef))]
    return dropped


def _without_unused(statement: ast.AST, used: set[str]) -> list[ast.AST]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value) if name not in used:
            return [] if isinstance(value, PURE) else [ast.Expr(value)]
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name not in used:
            return [] if isinstance(value, PURE) else [ast.Expr(value)]
    return [statement]
