"""What was read or stored and cannot have changed since, for no other process writes: see `processes`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

from sandgraph.store.records import CodeKind, CodeVersion, GraphVersion

K = TypeVar("K")
V = TypeVar("V")

_GRAPHS = 64
_CODE = 128
_RUNS = 32
_TENANTS = 4_096

#: Tenants whose tools are kept, all of them, each some megabytes at most.
_TOOLBOXES = 16

#: What a run pinned: functions and tools, by name.
Pinned = tuple[dict[str, CodeVersion], dict[str, CodeVersion]]


class Recent(Generic[K, V]):
    """What was used last.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """Return what is kept, if it is."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: K, value: V) -> None:
        """Keep one more, and forget what was not used for longest."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def forget(self, key: K) -> None:
        """Forget one, if it is kept."""
        self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


class Known:
    """What a store knows without asking the database; used on the event loop alone."""

    def __init__(self) -> None:
        #: Versions never change.
        self.graphs = Recent[str, GraphVersion](_GRAPHS)
        #: Of runs that were made here: nor does what they pinned.
        self.pinned = Recent[str, Pinned](_RUNS)
        #: Events that were sent, to whatever run.
        self.mails = 0
        self._without_mail = Recent[str, str](_RUNS)
        #: Whose a run is, which never changes either.
        self.tenants = Recent[str, str](_TENANTS)
        self._latest = Recent[tuple[str, CodeKind, str], CodeVersion](_CODE)
        self._tools = Recent[str, dict[str, CodeVersion]](_TOOLBOXES)
        self._age = 0

    def is_made(self, run_id: str, pinned: Pinned, mails: int) -> None:
        """Keep what is known of a new run; ``mails`` were sent before it was made."""
        self.pinned.keep(run_id, pinned)
        # Others may have heard of it earlier.
        if mails == self.mails:
            self._without_mail.keep(run_id, run_id)

    def is_sent(self, run_id: str) -> None:
        """A run is being sent an event."""
        self.mails += 1
        self._without_mail.forget(run_id)

    def has_no_mail(self, run_id: str) -> bool:
        """Tell whether it is known that nobody sent a run anything."""
        return self._without_mail.get(run_id) is not None

    @property
    def age(self) -> int:
        """Of the latest versions: what was asked for in an earlier age may lack the latest."""
        return self._age

    def forget_latest(self) -> None:
        """A version is being added."""
        self._age += 1
        self._latest.clear()
        self._tools.clear()

    def latest(self, tenant: str, kind: CodeKind, names: Iterable[str]) -> dict[str, CodeVersion] | None:
        """Return the latest version of each name; None where one is not known here."""
        found: dict[str, CodeVersion] = {}
        for name in names:
            version = self._latest.get((tenant, kind, name))
            if version is None:
                return None
            found[name] = version
        return found

    def keep_latest(self, tenant: str, kind: CodeKind, found: dict[str, CodeVersion], age: int) -> None:
        """Keep latest versions that were asked for at an age."""
        if age == self._age:
            for name, version in found.items():
                self._latest.keep((tenant, kind, name), version)

    def tools(self, tenant: str) -> dict[str, CodeVersion] | None:
        """Return the latest version of every tool; None where they are not known here."""
        found = self._tools.get(tenant)
        return None if found is None else dict(found)

    def keep_tools(self, tenant: str, found: dict[str, CodeVersion], age: int) -> None:
        """Keep the latest version of every tool, asked for at an age."""
        if age == self._age:
            self._tools.keep(tenant, dict(found))
