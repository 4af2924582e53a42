"""Parse source into the model that every detector and every fix works on."""

import ast
from typing import Any

from sandgraph import tools

MAX_DEPTH = 400
CONTEXTS = {
    (ast.FunctionDef, "decorator_list"): "decorator",
    (ast.AsyncFunctionDef, "decorator_list"): "decorator",
    (ast.ClassDef, "decorator_list"): "decorator",
    (ast.FunctionDef, "returns"): "annotation",
    (ast.AsyncFunctionDef, "returns"): "annotation",
    (ast.arg, "annotation"): "annotation",
    (ast.AnnAssign, "annotation"): "annotation",
    (ast.arguments, "defaults"): "default",
    (ast.arguments, "kw_defaults"): "default",
    (ast.match_case, "pattern"): "pattern",
    (ast.JoinedStr, "values"): "fstring",
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def review_model(code: str, filename: str = "") -> dict[str, Any]:
    """Parse `code` and index its syntax tree.

    Returns:
        What review_parse returns, and: `filename`; `nodes`, all nodes in source order; `parents`, node to parent;
        `owners`, node to the record of the function whose own code it is (class bodies and module code have none);
        `context`, node to `"decorator"`, `"annotation"`, `"default"`, `"pattern"` or `"fstring"` where it stands in
        one of these; `functions` and `classes`, records with `node`, `qualname`, `class` (its name, for a method),
        `nested` (defined inside a function), `public` and, for functions, `own` (their own nodes). Where the code
        cannot be parsed, only `error` and empty collections.
    """
    model: dict[str, Any] = {
        **tools.invoke("review_parse", code),
        "filename": filename,
        "nodes": [],
        "parents": {},
        "owners": {},
        "context": {},
        "functions": [],
        "classes": [],
    }
    if model["error"] is None and not _index(model):
        message = "the code is nested too deeply to be reviewed"
        model.update(error={"message": message, "line": 1, "column": 1}, tree=None, functions=[], classes=[])
    return model


def _index(model: dict[str, Any]) -> bool:
    """Walk the tree with a stack of its own: the interpreter's would end first. False where it is too deep."""
    module_scope: dict[str, Any] = {"node": model["tree"], "qualname": "", "public": True, "nested": False}
    stack: list[tuple[ast.AST, dict[str, Any], str, int]] = [(model["tree"], module_scope, "", 0)]
    while stack:
        node, scope, context, depth = stack.pop()
        if depth > MAX_DEPTH:
            return False
        model["nodes"].append(node)
        if context:
            model["context"][node] = context
        if "own" in scope:
            model["owners"][node] = scope
            scope["own"].append(node)
        inner = _open_scope(model, node, scope)
        children = []
        for field, value in ast.iter_fields(node):
            child_scope = inner if field == "body" else scope
            child_context = context or CONTEXTS.get((type(node), field), "")
            if field == "type_params" or type(node).__name__ == "TypeAlias":
                child_context = context or "annotation"
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    model["parents"][child] = node
                    children.append((child, child_scope, child_context, depth + 1))
        stack.extend(reversed(children))
    return True


def _open_scope(model: dict[str, Any], node: ast.AST, outer: dict[str, Any]) -> dict[str, Any]:
    """The scope of a node's body: a new record for a function or a class, else the one it stands in."""
    if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return outer
    in_function = isinstance(outer["node"], FUNCTIONS)
    prefix = f"{outer['qualname']}.<locals>." if in_function else f"{outer['qualname']}." if outer["qualname"] else ""
    record: dict[str, Any] = {
        "node": node,
        "qualname": prefix + node.name,
        "class": outer["node"].name if isinstance(outer["node"], ast.ClassDef) else None,
        "nested": in_function or outer["nested"],
        "public": outer["public"] and not in_function and not node.name.startswith("_"),
    }
    if isinstance(node, ast.ClassDef):
        model["classes"].append(record)
    else:
        record["own"] = []
        model["functions"].append(record)
    return record
