"""Parse Python source, or say why it cannot be parsed."""

import ast
import re
import warnings
from typing import Any

# Beyond what a review accepts: improved code is longer than the original.
MAX_BYTES = 500_000
BYTE_ORDER_MARK = "\ufeff"
LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def review_parse(code: str) -> dict[str, Any]:
    r"""Parse and compile `code` (nothing of it is executed).

    A line ends where the tokenizer ends it (`\n`, `\r\n`, `\r`), which `str.splitlines` gets wrong for form feeds.
    `lines` are UTF-8 bytes, because AST columns count bytes. A leading byte order mark is not part of the first line.

    Returns:
        `tree` (None where there is an error), `lines`, `newline` (the file's own) and `error`, which is None or has
        `message`, `line` and `column`.
    """
    result: dict[str, Any] = {"code": code, "tree": None, "lines": [], "newline": "\n", "error": None}
    text = code.removeprefix(BYTE_ORDER_MARK)
    try:
        data = text.encode("utf-8")
        if len(data) > MAX_BYTES:
            result["error"] = _problem(f"the code has {len(data)} bytes, more than the {MAX_BYTES} that can be parsed")
            return result
        result["lines"] = LINE.findall(data)
        result["newline"] = _newline(result["lines"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            compile(tree, "<code>", "exec", dont_inherit=True)
    except SyntaxError as error:
        result["error"] = _problem(error.msg, error.lineno, error.offset)
    except ValueError as error:
        result["error"] = _problem(str(error))
    except (RecursionError, MemoryError):
        result["error"] = _problem("the code is nested too deeply to be parsed")
    else:
        result["tree"] = tree
    return result


def _problem(message: str, line: int | None = None, column: int | None = None) -> dict[str, Any]:
    return {"message": message, "line": max(line or 1, 1), "column": max(column or 1, 1)}


def _newline(lines: list[bytes]) -> str:
    first = lines[0] if lines else b"\n"
    if first.endswith(b"\r\n"):
        return "\r\n"
    return "\r" if first.endswith(b"\r") else "\n"
