"""Whom a deployment lets in: with a key, while it runs open, and who may manage keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from gates import Clock, gated

from sandgraph.api.auth.gate import Gate
from sandgraph.model.access import ALL_SCOPES, Scope
from sandgraph.model.api_key import ApiKey, read_key, write_key
from sandgraph.store.beside import keys_of
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

DOUBLE = {"name": "double", "code": "def double(state):\n    pass\n"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Asked:
    """An application, asked over its own interface."""

    def __init__(self, client: httpx2.AsyncClient, gate: Gate, store: Store) -> None:
        self.client = client
        self.gate = gate
        self.store = store

    async def key(self, *scopes: Scope, tenant: str = "a", expires_in: timedelta | None = None) -> str:
        _, text = await self.store.keys.create(
            tenant, "test", scopes or ALL_SCOPES, created_by="test", expires_in=expires_in
        )
        return text

    async def ask(
        self,
        path: str,
        key: str | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        json: object = None,
    ) -> httpx2.Response:
        sent = {**({} if key is None else {"Authorization": f"Bearer {key}"}), **(headers or {})}
        return await self.client.request(method, path, headers=sent, json=json)

    async def refused(self, path: str, key: str | None = None, **more: Any) -> tuple[int, str]:  # noqa: ANN401 - as `ask`
        answer = await self.ask(path, key, **more)
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["code"]


def asked_of(app: Any, gate: Gate, store: Store, base: str = "http://127.0.0.1:8000") -> Asked:  # noqa: ANN401
    return Asked(httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=base), gate, store)


@pytest.fixture
async def asked(tmp_path: Path, clock: Clock) -> AsyncIterator[Asked]:
    async with gated(tmp_path / "data", clock) as (app, gate, store, _):
        made = asked_of(app, gate, store)
        async with made.client:
            yield made


async def test_without_keys_everybody_on_the_machine_is_let_in(asked: Asked) -> None:
    answer = await asked.ask("/whoami")
    assert answer.json() == {
        "tenant": "default",
        "subject": "anybody",
        "scopes": ["admin", "operate", "read", "submit"],
        "key_id": None,
        "expires_at": None,
        "open": True,
    }
    assert (await asked.ask("/nodes/register", method="POST", json=DOUBLE)).status_code == 201


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
async def test_while_it_is_open_no_other_name_leads_to_it(asked: Asked, host: str) -> None:
    assert await asked.refused("/graph/runs", headers={"Host": host}) == (403, "host_not_allowed")
    assert (await asked.ask("/livez", headers={"Host": host})).status_code == 200
    for own in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "[::1]"):
        assert (await asked.ask("/graph/runs", headers={"Host": own})).status_code == 200
    # With a key it may be reached by any name.
    key = await asked.key()
    asked.gate.shut()
    assert (await asked.ask("/graph/runs", key, headers={"Host": host})).status_code == 200


async def test_the_first_key_that_is_made_over_http_closes_it_at_once(asked: Asked) -> None:
    made = await asked.ask("/keys", method="POST", json={"name": "mine", "scopes": ["admin", "read"]})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert await asked.refused("/graph/runs") == (401, "authentication_required")
    key = made.json()["key"]
    assert (await asked.ask("/graph/runs", key)).status_code == 200
    # For good: that there is no key left that opens anything is no reason to let everybody in.
    assert (await asked.ask(f"/keys/{made.json()['key_id']}", key, method="DELETE")).status_code == 200
    assert await asked.refused("/graph/runs", key) == (401, "key_revoked")
    assert await asked.refused("/graph/runs") == (401, "authentication_required")


async def test_the_first_key_that_another_process_makes_closes_it_within_seconds(
    asked: Asked, clock: Clock, tmp_path: Path
) -> None:
    assert (await asked.ask("/graph/runs")).status_code == 200
    async with keys_of(tmp_path / "data") as keys:
        _, text = await keys.create("a", "cli", ALL_SCOPES, created_by="cli")
    clock.now += 2.5
    answers = await asyncio.gather(*(asked.ask("/graph/runs") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {401}
    assert (await asked.ask("/graph/runs", text)).status_code == 200


@pytest.mark.parametrize("options", [{"access": "closed"}, {"oidc_issuer": "http://127.0.0.1:9", "oidc_audience": "x"}])
async def test_a_closed_deployment_lets_nobody_in_before_there_is_a_key(
    tmp_path: Path, clock: Clock, options: dict[str, object]
) -> None:
    async with gated(tmp_path / "data", clock, **options) as (app, gate, store, _):
        asked = asked_of(app, gate, store)
        async with asked.client:
            assert await asked.refused("/graph/runs") == (401, "authentication_required")
            assert (await asked.ask("/graph/runs", await asked.key())).status_code == 200


async def test_an_open_deployment_is_open_to_every_name(tmp_path: Path, clock: Clock) -> None:
    async with gated(tmp_path / "data", clock, access="open", host="0.0.0.0") as (app, gate, store, _):
        asked = asked_of(app, gate, store, "http://platform:8000")
        async with asked.client:
            assert (await asked.ask("/graph/runs")).status_code == 200


async def test_the_challenge_says_how_to_authenticate(asked: Asked) -> None:
    key = await asked.key(Scope.READ)
    asked.gate.shut()
    assert (await asked.ask("/graph/runs")).headers["www-authenticate"] == 'Bearer realm="sandgraph"'
    wrong = await asked.ask("/graph/runs", "nonsense")
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    missing = await asked.ask("/nodes/register", key, method="POST", json=DOUBLE)
    assert missing.status_code == 403
    assert missing.json()["code"] == "scope_missing"
    assert missing.json()["detail"] == "This needs the scope submit; what you came with has read."
    assert 'error="insufficient_scope", scope="submit"' in missing.headers["www-authenticate"]


async def test_a_missing_scope_is_said_before_a_byte_of_the_body_is_read(asked: Asked) -> None:
    key = await asked.key(Scope.READ)
    asked.gate.shut()

    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{}"

    for path in ("/nodes/register", "/graph/run_async", "/keys"):
        sent = {"Authorization": f"Bearer {key}"}
        answer = await asked.client.post(path, content=body(), headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
    assert read == 0


async def test_an_unknown_key_is_told_nothing_that_helps_guessing(asked: Asked) -> None:
    mine = await asked.key()
    asked.gate.shut()
    parts = read_key(mine)
    assert parts is not None
    # The id of one with another secret, a key of another deployment, half a key, no key.
    guessed, foreign = (write_key(key_id, bytes(32)) for key_id in (parts.key_id, f"key_{'0' * 26}"))
    answers = [await asked.ask("/graph/runs", key) for key in (guessed, foreign, mine[:-1], "x")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["code"] == "key_invalid"


async def test_an_expired_key_opens_nothing(asked: Asked) -> None:
    expired, lasting = await asked.key(expires_in=timedelta(seconds=-1)), await asked.key(expires_in=timedelta(hours=1))
    asked.gate.shut()
    assert await asked.refused("/graph/runs", expired) == (401, "key_expired")
    assert (await asked.ask("/graph/runs", lasting)).status_code == 200
    who = (await asked.ask("/whoami", lasting)).json()
    assert (who["tenant"], who["open"]) == ("a", False)
    assert who["expires_at"].endswith("Z")


async def test_a_key_that_another_process_revokes_opens_nothing_within_seconds(
    asked: Asked, clock: Clock, tmp_path: Path
) -> None:
    key = await asked.key()
    asked.gate.shut()
    assert (await asked.ask("/graph/runs", key)).status_code == 200
    async with keys_of(tmp_path / "data") as keys:
        await keys.revoke((await asked.ask("/whoami", key)).json()["key_id"])
    clock.now += 2.5
    assert await asked.refused("/graph/runs", key) == (401, "key_revoked")


async def test_a_lookup_that_began_before_a_revocation_is_not_kept(asked: Asked) -> None:
    made, text = await asked.store.keys.create("a", "test", ALL_SCOPES, created_by="test")
    asked.gate.shut()
    looked, revoked = asyncio.Event(), asyncio.Event()
    get = asked.store.keys.get

    async def slow(key_id: str) -> ApiKey | None:
        found = await get(key_id)
        looked.set()
        await revoked.wait()
        return found

    asked.gate._ring._keys = type("Keys", (), {"get": staticmethod(slow), "used": asked.store.keys.used})()
    early = asyncio.create_task(asked.ask("/graph/runs", text))
    await looked.wait()
    await asked.store.keys.revoke(made.key_id)
    asked.gate.forget(made.key_id)
    revoked.set()
    # It came before.
    assert (await early).status_code == 200
    assert await asked.refused("/graph/runs", text) == (401, "key_revoked")


async def test_the_last_use_is_noted_at_most_once_a_minute(asked: Asked, clock: Clock) -> None:
    key = await asked.key()
    asked.gate.shut()
    writes = 0
    used = asked.store.keys.used

    async def counted(*args: Any) -> None:  # noqa: ANN401
        nonlocal writes
        writes += 1
        await used(*args)

    asked.gate._ring._keys = type("Keys", (), {"get": asked.store.keys.get, "used": staticmethod(counted)})()
    for _ in range(5):
        clock.now += 3
        assert (await asked.ask("/graph/runs", key)).status_code == 200
    await asked.gate._ring.close()
    assert writes == 1
    clock.now += 60
    await asked.ask("/graph/runs", key)
    await asked.gate._ring.close()
    assert writes == 2
    (kept,) = (await asked.store.keys.page("a")).items
    assert kept.last_used_at is not None


async def test_what_is_malformed_is_no_key(asked: Asked) -> None:
    key = await asked.key()
    asked.gate.shut()
    for header in ("Basic abc", "Bearer", f"Bearer {key} x", f"Bearer{key}", key):
        assert await asked.refused("/graph/runs", headers={"Authorization": header}) == (401, "credentials_malformed")
    twice = await asked.client.get(
        "/graph/runs", headers=[("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}")]
    )
    assert twice.json()["code"] == "credentials_malformed"
    assert (await asked.ask("/graph/runs", headers={"Authorization": f"bEaReR  {key}"})).status_code == 200


@pytest.mark.parametrize("query", ["api_key=x", "access_token=x", "token=x", "x={key}", "limit=1&Authorization=Bearer"])
async def test_a_key_in_an_address_is_refused_and_never_logged(
    asked: Asked, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    caplog.set_level(logging.DEBUG)
    key = await asked.key()
    asked.gate.shut()
    path = f"/graph/runs?{query.format(key=key)}"
    assert await asked.refused(path, key) == (401, "credentials_in_url")
    # The client of this test logs addresses too.
    assert not [each for each in caplog.records if key in each.getMessage() and each.name.startswith("sandgraph")]


async def test_what_is_public_needs_nothing_and_tells_nothing(asked: Asked) -> None:
    asked.gate.shut()
    for path in ("/", "/livez", "/readyz", "/openapi.json", "/docs", "/errors", "/errors/key_invalid"):
        assert (await asked.ask(path)).status_code == 200, path
        assert (await asked.ask(path, "nonsense")).status_code == 200, path
    for path in ("/graph/nothing", "/nothing", "/errorsx", "/livez/", "/LIVEZ", "/errors/../graph/runs"):
        assert (await asked.ask(path)).status_code in {401, 404}, path
    assert await asked.refused("/graph/nothing") == (401, "authentication_required")
    assert await asked.refused("/livez", method="POST") == (401, "authentication_required")


async def test_a_store_that_does_not_answer_lets_nobody_in(asked: Asked, clock: Clock) -> None:
    key = await asked.key()
    assert (await asked.ask("/graph/runs", key)).status_code == 200
    await asked.store.close()
    clock.now += 10
    assert await asked.refused("/graph/runs", key) == (503, "store_unavailable")
    assert (await asked.ask("/livez")).status_code == 200


async def test_no_key_lets_do_more_than_its_maker(asked: Asked) -> None:
    key = await asked.key(Scope.ADMIN, Scope.READ)
    asked.gate.shut()
    more = {"name": "more", "scopes": ["read", "operate"]}
    assert await asked.refused("/keys", key, method="POST", json=more) == (403, "scope_missing")
    made = await asked.ask("/keys", key, method="POST", json={"name": "less", "scopes": ["read"], "expires_in_s": 60})
    assert made.status_code == 201
    assert made.json()["scopes"] == ["read"]
    assert made.json()["created_by"] == (await asked.ask("/whoami", key)).json()["key_id"]
    assert await asked.refused("/keys", made.json()["key"]) == (403, "scope_missing")


async def test_a_key_is_made_once_however_often_it_is_asked_for(asked: Asked) -> None:
    mine, once = await asked.key(), {"Idempotency-Key": "once"}
    body = {"name": "new", "scopes": ["read"]}
    assert (await asked.ask("/keys", mine, method="POST", json=body, headers=once)).status_code == 201
    refused = await asked.refused("/keys", mine, method="POST", json=body, headers=once)
    assert refused == (409, "idempotency_answer_gone")
    assert [each["name"] for each in (await asked.ask("/keys", mine)).json()["keys"]] == ["new", "test"]


async def test_an_administrator_manages_the_own_tenants_keys_alone(asked: Asked) -> None:
    mine, other, operator = await asked.key(), await asked.key(tenant="b"), await asked.key(tenant="default")
    asked.gate.shut()
    other_id = (await asked.ask("/whoami", other)).json()["key_id"]
    listed = (await asked.ask("/keys", mine)).json()["keys"]
    assert {key["tenant"] for key in listed} == {"a"}
    assert not {"key", "digest", "secret"} & listed[0].keys()
    elsewhere = {"name": "x", "scopes": ["read"], "tenant": "b"}
    assert await asked.refused("/keys", mine, method="POST", json=elsewhere) == (403, "tenant_not_allowed")
    assert await asked.refused("/keys?tenant=b", mine) == (403, "tenant_not_allowed")
    assert await asked.refused(f"/keys/{other_id}", mine, method="DELETE") == (404, "key_not_found")
    assert (await asked.ask("/graph/runs", other)).status_code == 200
    # Who operates the deployment may.
    assert (await asked.ask("/keys", operator, method="POST", json=elsewhere)).json()["tenant"] == "b"
    assert len((await asked.ask("/keys?tenant=b", operator)).json()["keys"]) == 2
    assert (await asked.ask(f"/keys/{other_id}", operator, method="DELETE")).status_code == 200
    assert await asked.refused("/graph/runs", other) == (401, "key_revoked")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"scopes": ["read"]}, "name"),
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "a\nb", "scopes": ["read"]}, "name"),
        ({"name": "a", "scopes": []}, "scopes"),
        ({"name": "a", "scopes": ["root"]}, "scopes[0]"),
        ({"name": "a", "scopes": ["read"], "expires_in_s": 0}, "expires_in_s"),
        ({"name": "a", "scopes": ["read"], "tenant": "A B"}, "tenant"),
        ({"name": "a", "scopes": ["read"], "digest": "x"}, "digest"),
    ],
)
async def test_what_is_wrong_with_a_key_to_be_made_is_said(asked: Asked, body: dict[str, object], path: str) -> None:
    answer = await asked.ask("/keys", method="POST", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == path
    assert not await asked.store.keys.exist()
