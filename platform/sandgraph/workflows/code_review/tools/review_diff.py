"""Show what changed between two versions of a module."""

import difflib


def review_diff(before: str, after: str, filename: str = "") -> str:
    """A unified diff as `diff -u` and `git apply` understand it; empty where nothing changed.

    Lines end at newlines only: a form feed or a lone carriage return is part of its line.
    """
    name = filename or "code.py"
    diff = difflib.unified_diff(_lines(before), _lines(after), f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in diff)


def _lines(text: str) -> list[str]:
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop().removesuffix("\n")
    return [*lines, last] if last else lines
