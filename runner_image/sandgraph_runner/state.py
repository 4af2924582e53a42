"""The state as submitted code sees it."""

from __future__ import annotations

from sandgraph_runner.lean import Any, Iterable, Iterator, Mapping
from sandgraph_runner.protocol import MAX_READS
from sandgraph_runner.text import decoder

#: A JSON value as Python holds it; Any, so that callers need no casts.
Json = Any

# Taken before submitted code could replace it.
_decode = decoder()

#: How many keys an error lists at most.
_SHOWN = 20


class WorkflowState:
    """One JSON object that the nodes of a graph share: keys are non-empty strings, values anything JSON can hold.

    A value that is handed out is the state's own: changing a list or a dict in place changes the state. Only what is in
    the state when the function returns counts; it is checked then, and an error names the key.

    Args:
        data: The keys to begin with; copied one level deep.
        run_id: The run.
        node: The node's name.
        iteration: Which pass of a loop, from 1.
        attempt: Which try, from 1.
        idempotency_key: The same for every attempt of this node run: for calls that must happen once.
        scope: The path of the subgraph's node run that this is a part of; empty in none.
    """

    __slots__ = ("_data", "_handed_out", "_identity", "_reads")

    def __init__(
        self,
        data: Mapping[str, Json] | None = None,
        *,
        run_id: str = "",
        node: str = "",
        iteration: int = 1,
        attempt: int = 1,
        idempotency_key: str = "",
        scope: str = "",
    ) -> None:
        self._data: dict[str, Json] = {}
        # Keys whose list or dict somebody holds, who may change it in place.
        self._handed_out: set[str] = set()
        # Keys that were read or looked for; None stands for all that are there.
        self._reads: set[str | None] = set()
        self._identity = (run_id, node, iteration, attempt, idempotency_key, scope)
        for key, value in (data or {}).items():
            # One that is there already may even be empty: it can be read, and deleted.
            self._data[_checked(key) if key != "" else ""] = value

    @property
    def run_id(self) -> str:
        """The run this is part of."""
        return self._identity[0]

    @property
    def node(self) -> str:
        """The name of the node that runs."""
        return self._identity[1]

    @property
    def iteration(self) -> int:
        """Which pass of a loop this is, from 1."""
        return self._identity[2]

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self._identity[3]

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this node run."""
        return self._identity[4]

    @property
    def scope(self) -> str:
        """The path of the subgraph's node run that this is a part of; empty in none."""
        return self._identity[5]

    def get(self, key: str, default: Json = None) -> Json:
        """Return the key's value, or the default where there is none."""
        self._note(key)
        return self._read(key) if key in self._data else default

    def set(self, key: str, value: Json) -> None:
        """Set a key.

        Raises:
            TypeError: The key is not a string.
            ValueError: The key is empty.
        """
        self._data[_checked(key)] = value

    def delete(self, key: str) -> bool:
        """Remove a key if it is there, and tell whether it was."""
        if key not in self._data:
            return False
        del self._data[key]
        return True

    def update(self, changes: Mapping[str, Json] | Iterable[tuple[str, Json]] = (), /, **more: Json) -> None:
        """Set several keys, given as a mapping, as pairs or by name; either all of them or none.

        Raises:
            TypeError: A key is not a string.
            ValueError: A key is empty.
        """
        merged = {**dict(changes), **more}
        for key in merged:
            _checked(key)
        self._data.update(merged)

    def keys(self) -> list[str]:
        """Return the keys, in the order they were set."""
        self._reads.add(None)
        return list(self._data)

    def values(self) -> list[Json]:
        """Return the values, in the order of the keys."""
        self._reads.add(None)
        return [self._read(key) for key in self._data]

    def items(self) -> list[tuple[str, Json]]:
        """Return pairs of key and value."""
        self._reads.add(None)
        return [(key, self._read(key)) for key in self._data]

    def to_dict(self) -> dict[str, Json]:
        """Return a deep copy: changing it does not change the state."""
        self._reads.add(None)
        return {key: copied(value) for key, value in self._data.items()}

    def __getitem__(self, key: str) -> Json:
        self._note(key)
        if key not in self._data:
            raise KeyError(key)
        return self._read(key)

    def __setitem__(self, key: str, value: Json) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        self._reads.add(None)
        return len(self._data)

    def __repr__(self) -> str:
        self._reads.add(None)
        return f"<WorkflowState with {_listed(self._data)}>"

    def __getstate__(self) -> object:
        # What copies it reads it.
        self._reads.add(None)
        return super().__getstate__()

    def _note(self, key: object) -> None:
        # A loop over names that are not there must not fill the memory.
        if len(self._reads) > MAX_READS:
            return
        if type(key) is str:
            self._reads.add(key)
        elif issubclass(type(key), str):
            # As it is stored: of its own class, to look it up again would run submitted code.
            self._reads.add(str.__str__(key))

    def _read(self, key: str) -> Json:
        value = self._data[key]
        if not isinstance(value, str | int | float | None):
            self._handed_out.add(key)
        return value


class ReadOnlyState(WorkflowState):
    """The state as a condition gets it: what it reads are copies, and writing raises.

    Args:
        data: The keys and their values.
        texts: JSON texts that stand for the values of these keys.
        identity: As in `WorkflowState`.
    """

    __slots__ = ("_copies", "_texts")

    #: What an error says.
    _rule = "a condition may not change the state"

    def __init__(
        self,
        data: Mapping[str, Json] | None = None,
        texts: Mapping[str, str] | None = None,
        **identity: Any,
    ) -> None:
        super().__init__(data, **identity)
        self._texts = dict(texts or {})
        self._copies: dict[str, Json] = {}

    def to_dict(self) -> dict[str, Json]:
        """Return a deep copy."""
        self._reads.add(None)
        return {key: copied(self._read(key)) for key in self._data}

    def set(self, key: str, value: Json) -> None:
        """Refuse.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{self._rule} (it set {key!r} to a {type(value).__name__})")

    def delete(self, key: str) -> bool:
        """Refuse.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{self._rule} (it deleted {key!r})")

    def update(self, changes: Mapping[str, Json] | Iterable[tuple[str, Json]] = (), /, **more: Json) -> None:
        """Refuse.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{self._rule} (it updated {_listed({**dict(changes), **more})})")

    def _read(self, key: str) -> Json:
        # One copy a key, or a loop over `state.items[i]` would take quadratic time.
        if key not in self._copies:
            text = self._texts.get(key)
            self._copies[key] = copied(self._data[key]) if text is None else _decode(text)
        return self._copies[key]


class ItemState(ReadOnlyState):
    """The state as a map's function gets it beside its item."""

    __slots__ = ()

    _rule = "a map's function returns its result and cannot change the state"


class ExpressionState(ReadOnlyState):
    """The state as an expression sees it: attributes read keys, so that ``state.counter`` is ``state["counter"]``.

    A key comes before a method or property of the same name: with a key ``items``, ``state.items`` is its value.
    """

    __slots__ = ()

    def __getattribute__(self, name: str) -> Json:
        if not name.startswith("_") and name in self._data:
            self._note(name)
            return self._read(name)
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Json:
        # Reached where ordinary lookup failed: for keys with a leading underscore, and for those that are not there.
        data = object.__getattribute__(self, "_data")
        self._note(name)
        if name in data:
            return self._read(name)
        raise AttributeError(f"the state has no key {name!r}; it has {_listed(data)}", name=name)


def copied(value: Json) -> Json:
    """Return a copy that shares no list or dict with the value.

    Raises:
        RecursionError: It is nested too deeply, or contains itself.
    """
    kind = type(value)
    if kind is dict:
        return {key: copied(item) for key, item in value.items()}
    if kind is list:
        return [copied(item) for item in value]
    if kind in _IMMUTABLE:
        return value
    # Imported by those who need it: what is in a state is of other types.
    import copy  # noqa: PLC0415

    return copy.deepcopy(value)


_IMMUTABLE = frozenset({str, int, float, bool, type(None)})


def _checked(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a state key is a string, not {type(key).__name__}")
    if not key:
        raise ValueError("a state key is not empty")
    return key


def _listed(keys: Iterable[str]) -> str:
    names = [str(key) for key in keys]
    if not names:
        return "no keys"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
