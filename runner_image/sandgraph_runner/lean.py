"""What the runner uses of `typing`, `collections.abc`, `enum`, `functools` and `contextlib`, at a tenth of their price.

Every sandbox is a process that starts, and those five with what they import are a third of its start. So a type checker
is shown the real ones, and at run time there is what the runner needs of them: the same classes where they can be had
cheaply, small ones of our own else, and nothing for what is only said in annotations, which nobody evaluates.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import suppress
    from enum import IntEnum, StrEnum
    from functools import partial
    from typing import Any, NoReturn, Self, TextIO, TypeVar, dataclass_transform, overload
else:
    from _collections_abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from _functools import partial

    Any = NoReturn = Self = TextIO = object

    def TypeVar(name: str, **_: object) -> str:  # noqa: N802 - as in `typing`
        """Stand for a type in annotations."""
        return name

    def overload(function: object) -> object:
        """Do nothing: the definition that follows takes its place."""
        return function

    def dataclass_transform(**_: object) -> Callable:
        """Do nothing."""
        return lambda decorator: decorator

    class suppress:  # noqa: N801 - as in `contextlib`
        """End the block quietly where one of these is raised in it."""

        def __init__(self, *errors: type[BaseException]) -> None:
            self._errors = errors

        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
            return kind is not None and issubclass(kind, self._errors)

    class _Enumeration(type):
        """Makes each plain value in a class's body an instance of the class, with that name."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
            plain = {key: value for key, value in body.items() if not key.startswith("_")}
            made = super().__new__(cls, name, bases, {key: value for key, value in body.items() if key not in plain})
            made._members = {}
            for key, value in plain.items():
                member = made._members[value] = bases[0].__new__(made, value)
                member.name, member.value = key, value
                type.__setattr__(made, key, member)
            return made

        def __call__(cls, value: object) -> object:
            try:
                return cls._members[value]
            except KeyError:
                raise ValueError(f"{value!r} is not a valid {cls.__name__}") from None

        def __iter__(cls) -> Iterator:
            return iter(cls._members.values())

    class IntEnum(int, metaclass=_Enumeration):
        """Named numbers."""

    class StrEnum(str, metaclass=_Enumeration):  # noqa: SLOT000 - each has a name
        """Named words."""


__all__ = [
    "Any",
    "Awaitable",
    "Callable",
    "IntEnum",
    "Iterable",
    "Iterator",
    "Mapping",
    "NoReturn",
    "Self",
    "Sequence",
    "StrEnum",
    "TextIO",
    "TypeVar",
    "dataclass_transform",
    "overload",
    "partial",
    "suppress",
]
