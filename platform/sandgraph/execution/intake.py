"""Takes new runs in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from sandgraph.execution import plans
from sandgraph.execution.initial_state import checked_state
from sandgraph.model.annotations import NO_ANNOTATIONS, Annotations
from sandgraph.model.state import Json
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind, RunRecord
from sandgraph.store.store import Store


class Intake:
    """Makes runs; whether there is room for them is the caller's to see to.

    Args:
        store: Keeps them.
        settings: Of the deployment.
        image: The sandboxes' image, pinned by its digest.
    """

    def __init__(self, store: Store, settings: Settings, image: str) -> None:
        self._store = store
        self._settings = settings
        self._image = image

    async def submit(
        self,
        graph_id: str,
        initial_state: Mapping[str, Json],
        idempotency_key: str | None,
        tenant: str,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> tuple[RunRecord, bool]:
        """Make a run of a graph; see `Dispatcher.submit`."""
        version = await plans.graph_of(self._store, graph_id, tenant)
        state = checked_state(initial_state, self._settings, "initial_state")
        graphs = [version.graph, *(await plans.nested_graphs(self._store, version.graph)).values()]
        return await self._store.create_run(
            version,
            initial_state,
            functions=await self._store.latest_code(CodeKind.FUNCTION, plans.functions_of(graphs), tenant=tenant),
            tools=await self._store.all_tools(tenant=tenant),
            image=self._image,
            idempotency_key=idempotency_key,
            fingerprint=_fingerprint(graph_id, state, annotations) if idempotency_key else None,
            annotations=annotations,
        )


def _fingerprint(graph_id: str, state: bytes, annotations: Annotations) -> str:
    request = hashlib.sha256(graph_id.encode() + b"\0" + state)
    if annotations:  # else as releases before they were there have it
        noted = [list(annotations.tags), dict(annotations.metadata)]
        request.update(b"\0" + json.dumps(noted, sort_keys=True).encode())
    return request.hexdigest()
