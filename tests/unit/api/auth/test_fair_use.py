"""How often keys, tenants and addresses may ask, with the keys of a deployment; and who manages tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx2
import pytest
from gates import Clock, gated

from sandgraph.api.limits.middleware import Limits
from sandgraph.model.access import ALL_SCOPES, Scope
from sandgraph.settings import load_settings
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


class Asked:
    """An application of a deployment that has keys, asked over its own interface."""

    def __init__(self, client: httpx2.AsyncClient, store: Store) -> None:
        self._client = client
        self._store = store

    async def key(self, tenant: str, *scopes: Scope) -> str:
        return (await self._store.keys.create(tenant, "test", scopes or ALL_SCOPES, created_by="test"))[1]

    async def ask(self, path: str, key: str | None = None) -> httpx2.Response:
        return await self._client.get(path, headers={} if key is None else {"Authorization": f"Bearer {key}"})

    async def statuses(self, path: str, keys: Sequence[str | None]) -> list[int]:
        return [(await self.ask(path, key)).status_code for key in keys]


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    bounds = {
        "key_reads_per_minute": 4,
        "tenant_requests_per_minute": 6,
        "address_failures_per_minute": 3,
        "address_requests_per_minute": 5,
    }
    async with gated(tmp_path / "data", Clock()) as (app, _, store, _):
        app.state.limits = Limits(load_settings(**bounds))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            asked = Asked(client, store)
            await asked.key("default")
            yield asked


async def test_each_key_has_its_rate_and_all_of_a_tenant_one_together(asked: Asked) -> None:
    one, two, other = await asked.key("a"), await asked.key("a"), await asked.key("b")
    assert await asked.statuses("/graph/list", [one] * 5) == [200] * 4 + [429]
    assert await asked.statuses("/graph/list", [two] * 3) == [200, 200, 429], "the tenant has asked six times"
    assert await asked.statuses("/graph/list", [other]) == [200]
    refused = await asked.ask("/graph/list", two)
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["RateLimit-Policy"] == '"tenant";q=6;w=60'
    assert int(refused.headers["Retry-After"]) >= 1


async def test_who_guesses_keys_is_turned_away_before_they_are_looked_up(asked: Asked) -> None:
    good, fresh = await asked.key("a"), await asked.key("b")
    assert await asked.statuses("/graph/list", [good]) == [200]
    guesses = [f"{good[:-4]}{number:04}" for number in range(5)]
    assert await asked.statuses("/graph/list", guesses) == [401] * 3 + [429] * 2
    assert await asked.statuses("/graph/list", [good, fresh]) == [200, 429], (
        "it was good before; the other may be a guess"
    )


async def test_who_comes_without_a_key_is_counted_too(asked: Asked) -> None:
    assert await asked.statuses("/graph/list", [None] * 7) == [401] * 5 + [429] * 2
    assert await asked.statuses("/errors", [None] * 6) == [200] * 5 + [429], "what is public is counted by itself"
    assert await asked.statuses("/livez", [None] * 7) == [200] * 7, "whoever looks after it is always answered"


async def test_tenants_are_managed_by_who_operates_the_deployment(asked: Asked) -> None:
    operator, administrator = await asked.key("default", Scope.ADMIN), await asked.key("a", Scope.ADMIN)
    reader = await asked.key("default", Scope.READ, Scope.OPERATE, Scope.SUBMIT)
    for path in ("/tenants", "/tenants/a"):
        assert (await asked.ask(path, operator)).status_code == 200
        for key, code in ((administrator, "operator_required"), (reader, "scope_missing")):
            refused = await asked.ask(path, key)
            assert (refused.status_code, refused.json()["code"]) == (403, code)
