"""Change source text at positions of its syntax tree."""

from typing import Any

BYTE_ORDER_MARK = "\ufeff"
Edit = tuple[int, int, int, int, str]


def review_edit(model: dict[str, Any], edits: list[Edit]) -> str:
    """The model's source with `edits` made; every other byte stays.

    Args:
        model: From review_model (or review_parse).
        edits: Each `(line, column, end_line, end_column, text)` in the tree's coordinates: lines from 1, columns in
            UTF-8 bytes from 0. A position after the last line is its end. Where two edits insert at one position, the
            one given first comes first.

    Raises:
        ValueError: Two edits overlap.
    """
    lines: list[bytes] = model["lines"]
    starts = [0]
    for content in lines:
        starts.append(starts[-1] + len(content))
    source = b"".join(lines)
    pieces: list[bytes] = []
    done = 0
    for line, column, end_line, end_column, text in sorted(edits, key=lambda edit: edit[:4]):
        start = min(starts[line - 1] + column, len(source))
        end = min(starts[min(end_line, len(starts)) - 1] + end_column, len(source))
        if start < done or end < start:
            message = f"the edit at line {line}, column {column} overlaps another"
            raise ValueError(message)
        pieces += [source[done:start], text.encode("utf-8")]
        done = end
    pieces.append(source[done:])
    mark = BYTE_ORDER_MARK if model["code"].startswith(BYTE_ORDER_MARK) else ""
    return mark + b"".join(pieces).decode("utf-8")
