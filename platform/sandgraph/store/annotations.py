"""Notes on runs: beside their rows, which change with every step and are to stay narrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from sandgraph.errors import InvalidInput, NotFound, PreconditionFailed
from sandgraph.model.annotations import MAX_METADATA, NO_ANNOTATIONS, AnnotationChange, Annotations
from sandgraph.store.tables import run, run_annotation, run_tag

#: What a statement about runs selects beside their own columns, with `JOINED` as its tables.
COLUMNS = (run_annotation.c.tags, run_annotation.c.notes, run_annotation.c.revision)
JOINED = run.outerjoin(run_annotation, run_annotation.c.run_id == run.c.id)


def annotations_of(row: Row[Any]) -> Annotations:
    """Make them from the row of a statement with `COLUMNS`."""
    if row.revision is None:
        return NO_ANNOTATIONS
    return Annotations(tuple(row.tags), cast("Mapping[str, str]", row.notes), row.revision)


def add(connection: Connection, tenant: str, run_id: str, annotations: Annotations) -> None:
    """Store those of a new run."""
    if annotations:
        connection.execute(
            insert(run_annotation),
            {
                "run_id": run_id,
                "tags": list(annotations.tags),
                "notes": dict(annotations.metadata),
                "revision": annotations.revision,
            },
        )
        _tag(connection, tenant, run_id, annotations.tags)


def change(
    connection: Connection, run_id: str, changed: AnnotationChange, expected: frozenset[int] | None
) -> Annotations:
    """Change those of a run, and return them.

    Raises:
        NotFound: There is no such run.
        PreconditionFailed: They are of no ``expected`` revision.
        InvalidInput: There would be too many.
    """
    query: Select[Any] = select(run.c.tenant, *COLUMNS).select_from(JOINED).where(run.c.id == run_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound("run", run_id)
    before = annotations_of(row)
    if expected is not None and before.revision not in expected:
        raise PreconditionFailed(f"They are of revision {before.revision} by now: read them again.")
    after = changed.apply(before)
    if len(after.metadata) > MAX_METADATA:
        message = f"There would be {len(after.metadata)} entries; there may be {MAX_METADATA}."
        raise InvalidInput.at("metadata", "too_many_keys", message)
    if after is before:
        return before
    values = {"tags": list(after.tags), "notes": dict(after.metadata), "revision": after.revision}
    if row.revision is None:
        connection.execute(insert(run_annotation), {"run_id": run_id, **values})
    else:
        connection.execute(update(run_annotation).where(run_annotation.c.run_id == run_id), values)
    if after.tags != before.tags:
        connection.execute(delete(run_tag).where(run_tag.c.run_id == run_id))
        _tag(connection, row.tenant, run_id, after.tags)
    return after


def _tag(connection: Connection, tenant: str, run_id: str, tags: tuple[str, ...]) -> None:
    rows = [{"run_id": run_id, "tag": tag, "tenant": tenant} for tag in tags]
    if rows:
        connection.execute(insert(run_tag), rows)
