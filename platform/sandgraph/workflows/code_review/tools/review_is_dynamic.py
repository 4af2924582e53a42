"""Tell whether code looks up names in ways that reading it cannot show."""

import ast

BY_NAME = {"locals", "globals", "vars", "dir", "eval", "exec", "currentframe", "_getframe"}
BY_ATTRIBUTE = {"f_locals", "f_globals", "f_back", "currentframe", "_getframe"}
OF_AN_OBJECT = {"vars", "dir"}


def review_is_dynamic(node: ast.AST) -> bool:
    """Whether `node` holds a call or attribute that may reach any variable by its name.

    `vars(x)` and `dir(x)` look at an object, not at the variables around them.
    """
    harmless = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.args:
            if child.func.id in OF_AN_OBJECT:
                harmless.add(child.func)
        elif _reaches(child) and child not in harmless:
            return True
    return False


def _reaches(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in BY_NAME
    return isinstance(node, ast.Attribute) and node.attr in BY_ATTRIBUTE
