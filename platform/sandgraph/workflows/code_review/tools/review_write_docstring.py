"""Write a docstring from what the code shows."""

import ast
import re
from typing import Any

from sandgraph import tools

LISTED = 5
VERBS = {"get": "Return the", "set": "Set the", "make": "Make a", "create": "Create a", "to": "Convert to"}
IMPERATIVES = {
    "add",
    "apply",
    "calculate",
    "check",
    "compute",
    "count",
    "find",
    "load",
    "parse",
    "read",
    "update",
    "write",
}
NOUN = re.compile("(tion|ing|ment|total|count|name|size|length|price|cost|weight|value|average|level|rate|score)$")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def review_write_docstring(model: dict[str, Any], node: ast.AST) -> list[str]:
    """The lines of a docstring, without quotes and indent.

    A start for whoever knows better: the summary comes from the name, the sections from parameters, returned values and
    raised exceptions.

    Args:
        model: From review_model.
        node: A module, class or function of its tree.
    """
    if isinstance(node, ast.Module):
        return [_module_summary(model, node)]
    if isinstance(node, ast.ClassDef):
        return _class_lines(node)
    record = next(record for record in model["functions"] if record["node"] is node)
    lines = [_summary(record)]
    for title, entries in tools.invoke("review_function_sections", record).items():
        lines += ["", f"{title}:", *(f"    {entry}" for entry in entries)]
    return lines


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", name.strip("_")).strip().lower() or name


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _listing(names: list[str]) -> str:
    shown = names[:LISTED] + (["more"] if len(names) > LISTED else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _module_summary(model: dict[str, Any], tree: ast.Module) -> str:
    names = [
        statement.name
        for statement in tree.body
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)) and not statement.name.startswith("_")
    ]
    stem = re.split(r"[/\\]", model["filename"])[-1].removesuffix(".py")
    subject = _words(stem) if re.fullmatch(r"\w+", stem) else ""
    if not names:
        return _sentence(f"{subject} module" if subject else "a module without public functions or classes")
    return _sentence(f"{subject}: {_listing(names)}" if subject else f"provides {_listing(names)}")


def _class_lines(node: ast.ClassDef) -> list[str]:
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    if any(base.endswith(("Error", "Exception")) for base in bases):
        return [_sentence(f"raised on {_words(node.name)}")]
    methods = [item.name for item in node.body if isinstance(item, FUNCTIONS) and not item.name.startswith("_")]
    summary = _sentence(f"{_words(node.name)}, with {_listing(methods)}" if methods else _words(node.name))
    attributes = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and not item.target.id.startswith("_"):
            annotation = tools.invoke("review_quote_code", item.annotation) or f"The {_words(item.target.id)}"
            attributes.append(f"    {item.target.id}: {annotation}.")
    return [summary, "", "Attributes:", *attributes] if attributes else [summary]


def _summary(record: dict[str, Any]) -> str:
    node = record["node"]
    words = _words(node.name).split()
    arguments = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]]
    subject = next((_words(name) for name in arguments if name not in {"self", "cls"}), "")
    first, rest = words[0], " ".join(words[1:])
    if any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in node.decorator_list):
        return _sentence(f"the {' '.join(words)}")
    if first in {"is", "has", "can", "should"} and rest:
        owner = f"the {_words(record['class'])}" if record["class"] else subject or "it"
        return _sentence(f"tell whether {owner} {first} {rest}")
    if first in VERBS and rest:
        return _sentence(f"{VERBS[first]} {rest}")
    returns = any(isinstance(item, ast.Return) and item.value is not None for item in record["own"])
    if returns and NOUN.search(words[-1]) and first not in IMPERATIVES:
        return _sentence(f"return the {' '.join(words)}{f' for {subject}' if subject else ''}")
    if not rest and subject:
        return _sentence(f"{first} {subject}")
    return _sentence(" ".join(words))
