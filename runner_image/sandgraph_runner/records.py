"""Immutable records: of `dataclasses` what the runner needs, without the 8 ms that its imports take of each start."""

from __future__ import annotations

from sandgraph_runner.lean import Any, TypeVar, dataclass_transform

T = TypeVar("T")


class Record:
    """What `record` makes of a class; its instances equal others of the class with the same values, and hash so."""

    __match_args__: tuple[str, ...] = ()

    def __init__(self, *args: Any, **named: Any) -> None:
        names, own = self.__match_args__, vars(self)
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, not {len(args)}")
        own.update(zip(names, args, strict=False))
        for name in names[len(args) :]:
            try:
                own[name] = named.pop(name) if name in named else getattr(type(self), name)
            except AttributeError:
                raise TypeError(f"{type(self).__name__} lacks a value for {name!r}") from None
        if named:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(named))!r}, or got it twice")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def to_meta(self) -> dict[str, object]:
        """Return the JSON form: records as objects, tuples as lists."""
        return {name: _plain(value) for name, value in vars(self).items()}


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a class whose annotations are its fields, in their order, and whose attributes are their defaults.

    It must be a subclass of `Record`; fields are not inherited.
    """
    cls.__match_args__ = tuple(cls.__annotations__)  # type: ignore[attr-defined,misc]
    return cls


def replace(old: T, **changes: object) -> T:
    """Return a copy of a record with other values."""
    return type(old)(**{**vars(old), **changes})


def _plain(value: object) -> object:
    if isinstance(value, Record):
        return value.to_meta()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
