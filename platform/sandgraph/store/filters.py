"""What lists are asked for: which items, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sandgraph.model.run import RunStatus


class RunSort(StrEnum):
    """The order of a list of runs; by their end, only those are listed that have one."""

    NEWEST = "-created_at"
    OLDEST = "created_at"
    ENDED_LAST = "-finished_at"
    ENDED_FIRST = "finished_at"

    @property
    def is_by_end(self) -> bool:
        """Whether runs are in the order of their ends."""
        return self in {RunSort.ENDED_LAST, RunSort.ENDED_FIRST}

    @property
    def is_descending(self) -> bool:
        """Whether the latest come first."""
        return self.startswith("-")


class NameSort(StrEnum):
    """The order of a list of what has a name, and came at some time."""

    NAME = "name"
    NEWEST = "-created_at"
    OLDEST = "created_at"

    @property
    def is_descending(self) -> bool:
        """Whether the latest come first."""
        return self is NameSort.NEWEST


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are listed: those of which all holds that is said.

    Attributes:
        statuses: One of these; all without any.
        graph_id: Of this graph version.
        graph_name: Of this graph, in any version.
        tags: With all of these.
        failure: That failed with this code.
        paused: That are paused, or are not.
        forked_from: That were made from this run.
        created_after: At that time or later; likewise ``finished_after``.
        created_before: Before that time; likewise ``finished_before``.
        finished_after: See there.
        finished_before: See there.
    """

    statuses: frozenset[RunStatus] = frozenset()
    graph_id: str | None = None
    graph_name: str | None = None
    tags: tuple[str, ...] = ()
    failure: str | None = None
    paused: bool | None = None
    forked_from: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None


#: All runs.
ALL_RUNS = RunFilter()


@dataclass(frozen=True, slots=True)
class GraphFilter:
    """Which graph versions are listed: of one name, of names that begin so, only the latest of each name."""

    name: str | None = None
    prefix: str = ""
    latest: bool = False


#: All versions.
ALL_GRAPHS = GraphFilter()
