"""Lists of runs."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, exists, or_, select
from sqlalchemy.sql.selectable import FromClause

from sandgraph.model.run import RunStatus
from sandgraph.store import cursors
from sandgraph.store.annotations import COLUMNS, JOINED
from sandgraph.store.filters import RunFilter, RunSort
from sandgraph.store.ids import first_id
from sandgraph.store.records import Page, RunSummary
from sandgraph.store.runs import summary_of
from sandgraph.store.scans import STATEMENTS, collect
from sandgraph.store.tables import run, run_tag

#: A run's id is made this long before it is called created, at most.
_SLACK = timedelta(seconds=5)

#: Pages of one list whose statements are kept.
_PAGES = 4

#: Where a run is in the list: its id, and its end where the list is in the order of those.
Key = tuple[str, datetime | None]


def page(
    connection: Connection, tenant: str | None, where: RunFilter, sort: RunSort, cursor: str | None, limit: int
) -> Page[RunSummary]:
    """Return runs in the order of ``sort``."""
    kind = f"runs {sort}"
    after = _key(kind, cursor, sort)
    plan = plan_of(tenant, where, sort)

    def load(keys: Sequence[Key]) -> Mapping[Key, RunSummary]:
        return _load(connection, plan, keys)

    def fetch(behind: Key | None, most: int) -> list[Key]:
        return _fetch(connection, plan, behind, most)

    found, last = collect(after, limit, fetch, load)
    return Page(tuple(found), None if last is None else cursors.encode(kind, _text(last)))


@dataclass(frozen=True, slots=True)
class Plan:
    """How runs are found.

    Attributes:
        sources: Statements that give keys, each through an index in the list's order; one for each status, where it is
            by those.
        rows: The statement that reads those runs of some ``ids`` of which all else holds that is asked.
        is_descending: The order.
    """

    sources: tuple[Callable[[Key | None, int], Select[Any]], ...]
    rows: Select[Any]
    is_descending: bool


@lru_cache(STATEMENTS)
def plan_of(tenant: str | None, where: RunFilter, sort: RunSort) -> Plan:
    """Choose the index that leaves least to be looked at."""
    asked = _asked(tenant, where)
    tags: dict[str, ColumnElement[bool]] = {
        tag: exists().where(run_tag.c.run_id == run.c.id, run_tag.c.tag == tag).correlate(run)
        for tag in dict.fromkeys(where.tags)
    }
    if sort.is_by_end:
        ends = [asked.pop(name) for name in ("tenant", "finished_after", "finished_before") if name in asked]
        source = _by_end([run.c.finished_at.is_not(None), *ends], sort)
        return Plan((source,), _rows([*asked.values(), *tags.values()]), sort.is_descending)
    sources = _sources(tenant, where, asked, tags, sort)
    return Plan(sources, _rows([*asked.values(), *tags.values()]), sort.is_descending)


def _asked(tenant: str | None, where: RunFilter) -> dict[str, ColumnElement[bool]]:
    """Return the conditions on a run's own row, by name."""
    c = run.c
    equal = {
        "tenant": (c.tenant, tenant),
        "forked_from": (c.forked_from, where.forked_from),
        "failure": (c.failure_code, where.failure),
        "graph_id": (c.graph_id, where.graph_id),
        "graph_name": (c.graph_name, where.graph_name),
    }
    asked: dict[str, ColumnElement[bool]] = {
        name: column == value for name, (column, value) in equal.items() if value is not None
    }
    if where.paused is not None:
        asked["paused"] = c.paused.is_(where.paused)
    if where.statuses:
        asked["status"] = c.status.in_(sorted(where.statuses))
    for name, column, since, until in (
        ("created", c.created_at, where.created_after, where.created_before),
        ("finished", c.finished_at, where.finished_after, where.finished_before),
    ):
        if since is not None:
            asked[f"{name}_after"] = column >= since
        if until is not None:
            asked[f"{name}_before"] = column < until
    return asked


def _sources(
    tenant: str | None,
    where: RunFilter,
    asked: dict[str, ColumnElement[bool]],
    tags: dict[str, ColumnElement[bool]],
    sort: RunSort,
) -> tuple[Callable[[Key | None, int], Select[Any]], ...]:
    """Return the statements for a list in the order of ids, and take what they see to from ``asked`` and ``tags``."""
    c = run.c
    if tenant is not None and tags:
        tag, _ = tags.popitem()
        asked.pop("tenant")
        return (_by_id(run_tag.c.run_id, [run_tag.c.tenant == tenant, run_tag.c.tag == tag], where, sort, None),)
    for name, index in (
        ("forked_from", "ix_run_tenant_forked_from_id"),
        ("failure", "ix_run_tenant_failure_code_id"),
        ("graph_name", "ix_run_tenant_graph_name_id"),
    ):
        if tenant is not None and name in asked and not (name == "graph_name" and "graph_id" in asked):
            return (_by_id(c.id, [asked.pop("tenant"), asked.pop(name)], where, sort, index),)
    if tenant is not None and where.paused:
        return (_by_id(c.id, [asked.pop("tenant"), asked.pop("paused")], where, sort, "ix_run_tenant_id_paused"),)
    is_of_graph = "graph_id" in asked
    of = asked.pop("graph_id") if is_of_graph else asked.pop("tenant", None)
    prefix = "graph_id" if is_of_graph else "tenant"
    before = [] if of is None else [of]
    if where.statuses and len(where.statuses) < len(RunStatus):
        asked.pop("status")
        index = "ix_run_status_id" if of is None else f"ix_run_{prefix}_status_id"
        return tuple(
            _by_id(c.id, [*before, c.status == status.value], where, sort, index) for status in sorted(where.statuses)
        )
    asked.pop("status", None)
    return (_by_id(c.id, before, where, sort, None if of is None else f"ix_run_{prefix}_id"),)


def _by_id(
    column: ColumnElement[str],
    conditions: Sequence[ColumnElement[bool]],
    where: RunFilter,
    sort: RunSort,
    index: str | None,
) -> Callable[[Key | None, int], Select[Any]]:
    # An id tells the time at which it was made, so that a time leads to its place in every index.
    bounds = list(conditions)
    if where.created_after is not None:
        bounds.append(column >= first_id("run", where.created_after - _SLACK))
    upper = [each for each in (where.created_before, where.finished_before) if each is not None]
    if upper:
        bounds.append(column < first_id("run", min(upper) + timedelta(milliseconds=1)))

    @lru_cache(_PAGES)
    def make(behind: Key | None, most: int) -> Select[Any]:
        order = column.desc() if sort.is_descending else column.asc()
        query = select(column).where(*bounds).order_by(order).limit(most)
        if index is not None:
            # There may be no statistics to tell SQLite that the shorter way is the shorter one.
            query = query.with_hint(run, f"INDEXED BY {index}", "sqlite")
        if behind is not None:
            query = query.where(column < behind[0] if sort.is_descending else column > behind[0])
        return query

    return make


def _by_end(conditions: Sequence[ColumnElement[bool]], sort: RunSort) -> Callable[[Key | None, int], Select[Any]]:
    at, run_id = run.c.finished_at, run.c.id

    @lru_cache(_PAGES)
    def make(behind: Key | None, most: int) -> Select[Any]:
        order = (at.desc(), run_id.desc()) if sort.is_descending else (at.asc(), run_id.asc())
        query = select(run_id, at).where(*conditions).order_by(*order).limit(most)
        query = query.with_hint(run, "INDEXED BY ix_run_tenant_finished_at_id", "sqlite")
        if behind is not None:
            last_id, last = behind
            if sort.is_descending:
                query = query.where(at <= last, or_(at < last, run_id < last_id))
            else:
                query = query.where(at >= last, or_(at > last, run_id > last_id))
        return query

    return make


def _fetch(connection: Connection, plan: Plan, behind: Key | None, most: int) -> list[Key]:
    lists: Iterable[list[Key]] = (
        [(row[0], row[1] if len(row) > 1 else None) for row in connection.execute(make(behind, most))]
        for make in plan.sources
    )
    if len(plan.sources) == 1:
        return next(iter(lists))
    return list(heapq.merge(*lists, key=lambda key: key[0], reverse=plan.is_descending))[:most]


def _load(connection: Connection, plan: Plan, keys: Sequence[Key]) -> Mapping[Key, RunSummary]:
    by_id = {key[0]: key for key in keys}
    return {by_id[row.id]: summary_of(row) for row in connection.execute(plan.rows, {"ids": list(by_id)})}


def _rows(rest: Sequence[ColumnElement[bool]]) -> Select[Any]:
    joined: FromClause = JOINED
    is_shown = and_(run.c.id.in_(bindparam("ids", expanding=True)), run.c.deleted_at.is_(None), *rest)
    return select(run, *COLUMNS).select_from(joined).where(is_shown)


def _text(key: Key) -> str:
    run_id, at = key
    return run_id if at is None else f"{run_id} {at.isoformat()}"


def _key(kind: str, cursor: str | None, sort: RunSort) -> Key | None:
    text = cursors.decode(kind, cursor)
    if text is None:
        return None
    run_id, _, at = text.partition(" ")
    if not sort.is_by_end:
        return run_id, None
    return run_id, cursors.time_of(at)
