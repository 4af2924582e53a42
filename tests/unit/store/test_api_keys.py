"""API keys as they are kept: of one tenant each, without their secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from places import Place

from sandgraph.errors import ConfigurationError, InvalidInput, NotFound, Unavailable
from sandgraph.model.access import ALL_SCOPES, Scope
from sandgraph.model.api_key import ApiKey, read_key
from sandgraph.store.beside import keys_of
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def make(
    store: Store, tenant: str = "a", scopes: Iterable[Scope] = ALL_SCOPES, expires_in: timedelta | None = None
) -> tuple[ApiKey, str]:
    return await store.keys.create(tenant, "ci", scopes, created_by="test", expires_in=expires_in)


async def test_a_key_is_kept_without_its_secret(store: Store, place: Place) -> None:
    assert not await store.keys.exist()
    made, text = await make(store, scopes=[Scope.READ, Scope.SUBMIT], expires_in=timedelta(days=1))
    assert await store.keys.exist()
    assert await store.keys.get(made.key_id) == made
    assert made.scopes == {Scope.READ, Scope.SUBMIT}
    assert made.expires_at == made.created_at + timedelta(days=1)
    assert (made.last_used_at, made.revoked_at) == (None, None)
    parts = read_key(text)
    assert parts is not None
    assert made.fits(parts.secret)
    assert not made.fits(parts.secret[::-1])
    assert text.startswith(f"{made.prefix}_")
    kept = str(place.sql("SELECT * FROM api_key"))
    assert made.digest in kept
    assert parts.secret not in kept


async def test_a_list_has_the_keys_of_one_tenant_newest_first(store: Store) -> None:
    mine = [(await make(store, "a"))[0].key_id for _ in range(3)]
    other = (await make(store, "b"))[0].key_id
    first = await store.keys.page("a", limit=2)
    rest = await store.keys.page("a", cursor=first.next_cursor, limit=2)
    assert [key.key_id for key in (*first.items, *rest.items)] == mine[::-1]
    assert rest.next_cursor is None
    assert [key.key_id for key in (await store.keys.page(None)).items] == [other, *mine[::-1]]
    with pytest.raises(InvalidInput):
        await store.keys.page("a", cursor="none")


async def test_a_revoked_key_stays_revoked_since_the_first_time(store: Store) -> None:
    made, _ = await make(store)
    revoked = await store.keys.revoke(made.key_id, "a")
    assert revoked.revoked_at is not None
    assert await store.keys.revoke(made.key_id) == revoked
    assert await store.keys.exist()


async def test_another_tenants_key_is_not_there_to_be_revoked(store: Store) -> None:
    made, _ = await make(store, "b")
    for key_id, tenant in ((made.key_id, "a"), ("key_none", None)):
        with pytest.raises(NotFound) as refused:
            await store.keys.revoke(key_id, tenant)
        assert refused.value.code == "key_not_found"
    assert await store.keys.get(made.key_id) == made
    assert await store.keys.get("key_none") is None


async def test_the_last_use_only_moves_on(store: Store) -> None:
    made, _ = await make(store)
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    for at in (noon, noon - timedelta(hours=1)):
        await store.keys.used(made.key_id, at)
    found = await store.keys.get(made.key_id)
    assert found is not None
    assert found.last_used_at == noon


async def test_a_key_is_made_and_revoked_beside_a_platform_that_works(store: Store, place: Place) -> None:
    with pytest.raises(ConfigurationError):
        await place.open()
    async with keys_of(place.folder, place.url) as keys:
        made, _ = await keys.create("a", "ci", ALL_SCOPES, created_by="cli")
        assert await store.keys.get(made.key_id) == made
        await keys.revoke(made.key_id)
        found = await store.keys.get(made.key_id)
    assert found is not None
    assert found.revoked_at is not None
    # It goes on working.
    await store.heartbeat()
    await asyncio.gather(*(make(store) for _ in range(5)))


async def test_a_folder_without_a_database_gets_one(place: Place) -> None:
    async with keys_of(place.folder, place.url) as keys:
        made, _ = await keys.create("a", "ci", ALL_SCOPES, created_by="cli")
    opened = await place.open()
    assert await opened.keys.get(made.key_id) == made
    await opened.close()


async def test_a_database_that_does_not_answer_is_said(store: Store, place: Place) -> None:
    async with keys_of(place.folder, place.url) as keys:
        place.sql("DROP TABLE api_key")
        with pytest.raises(Unavailable):
            await keys.exist()
    assert not (await store.list_graphs()).items
