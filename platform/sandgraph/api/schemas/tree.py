"""Walks JSON documents without recursion, and tells where a value is only when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

#: A place in a document: the place of what holds it, and the key or index there. The root is None.
Location = tuple["Location | None", object] | None
_SHOWN = 128

Container = dict[str, object] | list[object]


def containers(document: object, at: Location = None) -> Iterator[tuple[Location, int, Container]]:
    """Yield every object and array with its place and its depth, which is 0 for the document itself."""
    todo: list[tuple[Location, int, object]] = [(at, 0, document)]
    while todo:
        place, depth, part = todo.pop()
        if not isinstance(part, (dict, list)):
            continue
        yield place, depth, part
        inner = [(key, value) for key, value in items(part) if isinstance(value, (dict, list))]
        # A chain, as a tuple of all keys for every value of a deep document would take its depth times its size.
        todo += [((place, key), depth + 1, value) for key, value in reversed(inner)]


def items(container: Container) -> Iterator[tuple[object, object]]:
    """Yield the keys or indices of a container with their values."""
    return iter(container.items()) if isinstance(container, dict) else enumerate(container)


def path(location: Location) -> str:
    """Return a place as ``nodes[1].function``."""
    keys: list[object] = []
    while location is not None:
        holder, key = location
        keys.append(key)
        location = holder
    return join(reversed(keys))


def join(keys: Iterator[object]) -> str:
    """Return keys and indices as one path."""
    whole = ""
    for key in keys:
        if isinstance(key, int):
            whole += f"[{key}]"
        else:
            text = shown(str(key))
            whole += f".{text}" if whole else text
    return whole.encode("utf-8", "replace").decode()


def shown(text: str) -> str:
    """Return a text as errors quote it: what was submitted may be as long as a body."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
