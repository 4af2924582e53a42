"""Tokens of an OIDC issuer: the honest ones are believed, and every known way to forge one is refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from gates import Clock, gated
from issuer import (
    AUDIENCE,
    EC,
    ED,
    OTHER_CURVE,
    OTHER_RSA,
    RSA,
    SMALL_RSA,
    Issuer,
    issuing,
    jwk,
    part,
    public_pem,
)
from jwt.algorithms import RSAAlgorithm

from sandgraph.api.auth.admission import Admission
from sandgraph.api.auth.gate import Gate
from sandgraph.api.auth.jwks import FRESH_S, PAUSE_S, STALE_S, IssuerKeys, is_safe
from sandgraph.api.auth.tokens import Tokens
from sandgraph.api.problem import HttpError
from sandgraph.errors import Unavailable
from sandgraph.model.access import Scope
from sandgraph.settings import load_settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tokens(issuer: Issuer, clock: Clock) -> AsyncIterator[Tokens]:
    made = tokens_of(issuer, clock)
    yield made
    await made.close()


def tokens_of(issuer: Issuer, clock: Clock, **options: object) -> Tokens:
    settings = load_settings(oidc_issuer=issuer.url, oidc_audience=AUDIENCE, **options)
    return Tokens(settings, IssuerKeys(issuer.url, settings.oidc_jwks_url, clock))


async def let_in(tokens: Tokens, token: str) -> bool:
    return bool((await tokens.admit(token)).principal.subject)


async def refusal(tokens: Tokens, token: str) -> str:
    with pytest.raises(HttpError) as refused:
        await tokens.admit(token)
    assert refused.value.status == 401
    assert refused.value.problem.code in {"token_invalid", "token_expired"}
    return refused.value.problem.message


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [(RSA, "rsa", "RS256"), (RSA, "rsa", "PS512"), (EC, "ec", "ES256"), (ED, "ed", "EdDSA")],
)
async def test_a_token_of_the_issuer_names_who_asks(
    issuer: Issuer, tokens: Tokens, key: object, kid: str, algorithm: str
) -> None:
    ends = int(time.time()) + 100
    admission = await tokens.admit(issuer.token(key=key, kid=kid, algorithm=algorithm, exp=ends))
    principal = admission.principal
    assert (principal.tenant, principal.subject, principal.key_id) == ("default", "ada", None)
    assert principal.scopes == {Scope.READ, Scope.SUBMIT}
    assert admission.expires_at == datetime.fromtimestamp(ends, UTC)


async def test_claims_say_tenant_and_scopes_as_the_settings_read_them(issuer: Issuer, clock: Clock) -> None:
    tokens = tokens_of(
        issuer,
        clock,
        oidc_tenant_claim="org.id",
        oidc_scope_claim="realm_access.roles",
        oidc_scope_map="dev=read, dev=submit,ops=operate",
    )
    said = {"org": {"id": "lab"}, "realm_access": {"roles": ["dev", "admin", "sandgraph:admin"]}, "scope": "ops"}
    principal = (await tokens.admit(issuer.token(**said))).principal
    assert principal.tenant == "lab"
    assert principal.scopes == {Scope.READ, Scope.SUBMIT}
    # A claim that has the path's text as its name comes first, as https://example.org/roles does.
    plain = (await tokens.admit(issuer.token(**{**said, "realm_access.roles": ["ops"]}))).principal
    assert plain.scopes == {Scope.OPERATE}
    for org in (..., {}, {"id": 5}, {"id": "A B"}, {"id": ""}, "lab"):
        assert "names no tenant" in await refusal(tokens, issuer.token(**{**said, "org": org}))
    for roles in (..., {}, {"roles": "nothing"}, {"roles": [5, {}]}, {"roles": {"dev": 1}}):
        assert (await tokens.admit(issuer.token(**{**said, "realm_access": roles}))).principal.scopes == frozenset()
    await tokens.close()


def signed(algorithm: Callable[[bytes], bytes], header: object, claims: object) -> str:
    body = f"{part(header)}.{part(claims)}"
    signature = algorithm(body.encode())
    return f"{body}.{part_of(signature)}"


def part_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_secret(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda body: hmac.new(secret, body, hashlib.sha256).digest()


async def test_a_token_that_nobody_signed_is_refused(issuer: Issuer, tokens: Tokens) -> None:
    honest = issuer.token()
    for name in ("none", "None", "NONE", "nOnE", "", None, 5, ["RS256"]):
        header = {"alg": name, "kid": "rsa", "typ": "JWT"}
        for signature in ("", honest.rpartition(".")[2]):
            await refusal(tokens, f"{part(header)}.{part(issuer.claims())}.{signature}")
    await refusal(tokens, honest.rpartition(".")[0] + ".")


async def test_a_public_key_is_no_shared_secret(issuer: Issuer, tokens: Tokens) -> None:
    published = json.dumps(issuer.keys[0]).encode()
    for secret in (public_pem(RSA), public_pem(RSA).strip(), published, b"", b"rsa"):
        for name in ("HS256", "HS384", "HS512"):
            forged = signed(by_secret(secret), {"alg": name, "kid": "rsa"}, issuer.claims())
            await refusal(tokens, forged)
    # Nor where the issuer publishes one that it should not.
    issuer.keys.append({"kty": "oct", "kid": "shared", "k": part("secret"), "use": "sig"})
    await refusal(tokens, signed(by_secret(b"secret"), {"alg": "HS256", "kid": "shared"}, issuer.claims()))


async def test_a_key_of_ones_own_signs_nothing(issuer: Issuer, tokens: Tokens) -> None:
    with issuing() as evil:
        evil.keys = [jwk(OTHER_RSA, "rsa"), jwk(OTHER_RSA, "evil")]
        mine = jwk(OTHER_RSA, "evil")
        for kid in ("rsa", "evil", "../../keys", "' OR 1=1 --"):
            for headers in (
                {},
                {"jku": f"{evil.url}/keys"},
                {"x5u": f"{evil.url}/keys"},
                {"jwk": mine},
                {"x5c": [part("certificate")]},
            ):
                await refusal(tokens, issuer.token(key=OTHER_RSA, kid=kid, headers=headers))
        await refusal(tokens, evil.token(key=OTHER_RSA, iss=evil.url, kid="evil"))
        assert evil.asked == []
    # What an honest token says of other keys changes nothing either.
    assert await let_in(tokens, issuer.token(headers={"jku": "http://127.0.0.1:9/", "x5t": "x"}))


async def test_a_key_signs_in_its_own_way_alone(issuer: Issuer, tokens: Tokens) -> None:
    issuer.keys += [
        jwk(OTHER_RSA, "for-rs256", alg="RS256"),
        jwk(OTHER_RSA, "for-encryption", use="enc"),
        jwk(SMALL_RSA, "small"),
        jwk(OTHER_CURVE, "p384"),
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": ["RSA"], "kid": "odd"},
        {"kid": 5, "kty": "RSA"},
    ]
    assert await let_in(tokens, issuer.token(key=OTHER_RSA, kid="for-rs256"))
    for key, kid, algorithm in (
        (OTHER_RSA, "for-rs256", "PS256"),
        (OTHER_RSA, "for-encryption", "RS256"),
        (EC, "p384", "ES256"),
        (EC, "rsa", "ES256"),
        (RSA, "ec", "RS256"),
        (RSA, "broken", "RS256"),
    ):
        await refusal(tokens, issuer.token(key=key, kid=kid, algorithm=algorithm))
    await refusal(tokens, signed_by_rsa({"alg": "RS256", "kid": "small"}, issuer.claims(), SMALL_RSA))
    assert await let_in(tokens, issuer.token(key=OTHER_CURVE, kid="p384", algorithm="ES384"))


async def test_a_changed_token_is_refused(issuer: Issuer, tokens: Tokens) -> None:
    head, claims, signature = issuer.token().split(".")
    other = part(issuer.claims(scope="sandgraph:admin"))
    for token in (
        f"{head}.{other}.{signature}",
        f"{head}.{claims}.{signature[:-4]}",
        f"{head}.{claims}",
        f"{head}.{claims}.{signature}.{signature}",
        f"{head}..{signature}",
        f".{claims}.{signature}",
        "..",
        "a.b.c",
        f"{part('[1]')}.{claims}.{signature}",
        f"{part('5')}.{claims}.{signature}",
        f"{part('[' * 5_000)}.{claims}.{signature}",
        f"{part('{')}.{claims}.{signature}",
        f"%%.{claims}.{signature}",
    ):
        await refusal(tokens, token)


async def test_a_token_for_somebody_else_is_refused(issuer: Issuer, tokens: Tokens) -> None:
    assert "another audience" in await refusal(tokens, issuer.token(aud="other"))
    assert "another audience" in await refusal(tokens, issuer.token(aud=["other", f"{AUDIENCE}2"]))
    assert "another issuer" in await refusal(tokens, issuer.token(iss="https://issuer.example"))
    assert "another issuer" in await refusal(tokens, issuer.token(iss=f"{issuer.url}/"))
    for claim in ("aud", "iss", "exp", "sub"):
        await refusal(tokens, issuer.token(**{claim: ...}))
    assert await let_in(tokens, issuer.token(aud=["other", AUDIENCE]))


async def test_a_token_is_good_for_its_time_alone(issuer: Issuer, tokens: Tokens) -> None:
    now = int(time.time())
    assert await refusal(tokens, issuer.token(exp=now - 60)) == "This token has expired."
    assert "not valid yet" in await refusal(tokens, issuer.token(nbf=now + 60))
    await refusal(tokens, issuer.token(iat=now + 60))
    # Clocks differ a little.
    assert await let_in(tokens, issuer.token(exp=now - 10, nbf=now + 10, iat=now + 10))
    odd: tuple[object, ...] = ("soon", [1], {}, 1e300, -1, 10**30)
    for exp in odd:
        await refusal(tokens, issuer.token(exp=exp))
    await refusal(
        tokens,
        signed_by_rsa(
            {"alg": "RS256", "kid": "rsa"}, json.dumps(issuer.claims()).replace('"exp": ', '"exp": 1e999, "x": ')
        ),
    )


def signed_by_rsa(header: object, claims: object, key: RSAPrivateKey = RSA) -> str:
    algorithm = RSAAlgorithm(RSAAlgorithm.SHA256)
    return signed(lambda body: algorithm.sign(body, key), header, claims)


async def test_what_two_readers_would_read_differently_is_refused(issuer: Issuer, tokens: Tokens) -> None:
    header = {"alg": "RS256", "kid": "rsa"}
    claims = json.dumps(issuer.claims())
    assert await let_in(tokens, signed_by_rsa(header, claims))
    await refusal(tokens, signed_by_rsa(header, claims[:-1] + ', "scope": "sandgraph:admin"}'))
    await refusal(tokens, signed_by_rsa(header, claims[:-1] + ', "org": {"id": 1, "id": 2}}'))
    await refusal(tokens, signed_by_rsa('{"alg": "none", "kid": "rsa", "alg": "RS256"}', claims))
    for more in ({"crit": ["exp"]}, {"b64": False}, {"b64": False, "crit": ["b64"]}):
        await refusal(tokens, signed_by_rsa({**header, **more}, claims))


async def test_who_is_named_must_be_a_name(issuer: Issuer, tokens: Tokens) -> None:
    for subject in ("", "x" * 256, "a\nb", "\x00"):
        assert "names nobody" in await refusal(tokens, issuer.token(sub=subject))
    await refusal(tokens, signed_by_rsa({"alg": "RS256", "kid": "rsa"}, issuer.claims(sub=5)))


async def test_an_oversized_token_is_not_looked_at(issuer: Issuer, tokens: Tokens) -> None:
    assert "at most 8192 bytes" in await refusal(tokens, issuer.token(more="x" * 9_000))
    await refusal(tokens, "x" * 1_000_000)
    assert issuer.asked == []


async def test_a_token_without_a_kid_is_refused(issuer: Issuer, tokens: Tokens) -> None:
    assert "(kid)" in await refusal(tokens, issuer.token(kid=None))
    assert "(kid)" in await refusal(tokens, signed_by_rsa({"alg": "RS256", "kid": {"a": 1}}, issuer.claims()))


async def test_keys_are_fetched_once_and_new_ones_when_they_are_met(
    issuer: Issuer, tokens: Tokens, clock: Clock
) -> None:
    for _ in range(3):
        await tokens.admit(issuer.token())
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    issuer.keys.append(jwk(OTHER_RSA, "new"))
    # Not at once, whatever kids come: nobody makes us ask more often.
    for _ in range(20):
        await refusal(tokens, issuer.token(key=OTHER_RSA, kid="new"))
    assert len(issuer.asked) == 2
    clock.now += PAUSE_S
    assert await let_in(tokens, issuer.token(key=OTHER_RSA, kid="new"))
    assert len(issuer.asked) == 4


async def test_a_key_that_the_issuer_withdrew_is_refused_in_time(issuer: Issuer, tokens: Tokens, clock: Clock) -> None:
    await tokens.admit(issuer.token())
    issuer.keys = [jwk(OTHER_RSA, "new")]
    clock.now += FRESH_S - 1
    await tokens.admit(issuer.token())
    clock.now += 1
    await refusal(tokens, issuer.token())


async def test_an_issuer_that_is_down_harms_nobody_whose_key_is_known(
    issuer: Issuer, tokens: Tokens, clock: Clock
) -> None:
    await tokens.admit(issuer.token())
    issuer.instead = {path: (503, {}, b"") for path in ("/.well-known/openid-configuration", "/keys")}
    clock.now += FRESH_S
    assert await let_in(tokens, issuer.token())
    with pytest.raises(Unavailable) as refused:
        await tokens.admit(issuer.token(key=OTHER_RSA, kid="new"))
    assert refused.value.code == "issuer_unavailable"
    # Not for ever.
    clock.now += STALE_S
    with pytest.raises(Unavailable):
        await tokens.admit(issuer.token())
    issuer.instead = {}
    clock.now += PAUSE_S
    assert await let_in(tokens, issuer.token())


async def test_many_who_come_at_once_ask_the_issuer_once(issuer: Issuer, tokens: Tokens) -> None:
    token = issuer.token()
    admitted = await asyncio.gather(*(tokens.admit(token) for _ in range(20)))
    assert all(isinstance(each, Admission) for each in admitted)
    assert len(issuer.asked) == 2


@pytest.mark.parametrize(
    "wicked",
    [
        {"/keys": (302, {"Location": "/elsewhere"}, b"")},
        {"/keys": (200, {}, b'{"keys": [' + b" " * 300_000 + b"]}")},
        {"/keys": (200, {}, b"[" * 100_000)},
        {"/keys": (200, {}, b"\xff")},
        {"/keys": (200, {}, b'{"keys": {}}')},
        {"/keys": (200, {}, b'{"keys": [' + b"5," * 200 + b"5]}")},
        {
            "/.well-known/openid-configuration": (
                200,
                {},
                b'{"issuer": "https://other", "jwks_uri": "http://127.0.0.1/"}',
            )
        },
        {"/.well-known/openid-configuration": (200, {}, b"[]")},
        {"/.well-known/openid-configuration": (302, {"Location": "/keys"}, b"")},
    ],
)
async def test_what_is_no_answer_of_an_issuer_is_as_none(
    issuer: Issuer, tokens: Tokens, wicked: dict[str, tuple[int, dict[str, str], bytes]]
) -> None:
    issuer.instead = {"/elsewhere": (200, {}, json.dumps({"keys": issuer.keys}).encode()), **wicked}
    with pytest.raises(Unavailable) as refused:
        await tokens.admit(issuer.token())
    assert refused.value.code == "issuer_unavailable"
    assert "/elsewhere" not in issuer.asked


async def test_the_configuration_of_another_issuer_counts_nothing(issuer: Issuer, tokens: Tokens) -> None:
    issuer.configuration["issuer"] = "https://other.example"
    with pytest.raises(Unavailable):
        await tokens.admit(issuer.token())
    assert "/keys" not in issuer.asked


async def test_keys_come_from_no_address_that_anybody_could_answer(issuer: Issuer) -> None:
    for url in ("http://issuer.invalid/keys", "file:///etc/passwd", "ftp://127.0.0.1/", 5, ""):
        issuer.configuration["jwks_uri"] = url
        keys = IssuerKeys(issuer.url)
        with pytest.raises(Unavailable):
            await keys.find("rsa", "RS256")
        await keys.close()
    assert not is_safe("http://127.0.0.1/keys", "https://issuer.example")
    assert is_safe("https://keys.example", "https://issuer.example")


async def test_the_keys_address_may_be_given(issuer: Issuer, clock: Clock) -> None:
    tokens = tokens_of(issuer, clock, oidc_jwks_url=f"{issuer.url}/keys")
    assert await let_in(tokens, issuer.token())
    assert issuer.asked == ["/keys"]
    await tokens.close()


async def test_a_token_opens_the_api_and_a_key_does_beside_it(issuer: Issuer, clock: Clock, tmp_path: Path) -> None:
    options = {"oidc_issuer": issuer.url, "oidc_audience": AUDIENCE}
    async with gated(tmp_path / "data", clock, **options) as (app, _, store, _):
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://any.example")
        async with client:

            async def ask(path: str, credential: str) -> httpx2.Response:
                return await client.get(path, headers={"Authorization": f"Bearer {credential}"})

            who = (await ask("/whoami", issuer.token())).json()
            assert (who["subject"], who["scopes"], who["key_id"], who["open"]) == (
                "ada",
                ["read", "submit"],
                None,
                False,
            )
            assert (await ask("/graph/runs", issuer.token())).status_code == 200
            assert (await ask("/keys", issuer.token())).json()["code"] == "scope_missing"
            assert (await ask("/keys", issuer.token(scope="sandgraph:admin"))).status_code == 200
            assert (await ask("/graph/runs", issuer.token(aud="x"))).json()["code"] == "token_invalid"
            _, key = await store.keys.create("a", "x", [Scope.READ], created_by="test")
            assert (await ask("/graph/runs", key)).status_code == 200
            issuer.instead = {path: (500, {}, b"") for path in ("/.well-known/openid-configuration", "/keys")}
            clock.now += PAUSE_S
            down = await ask("/graph/runs", issuer.token(key=OTHER_RSA, kid="new"))
            assert (down.status_code, down.json()["code"]) == (503, "issuer_unavailable")
            assert "retry-after" in down.headers


async def test_who_was_let_in_with_a_token_may_stay_until_it_ends(issuer: Issuer, clock: Clock, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, oidc_issuer=issuer.url, oidc_audience=AUDIENCE)
    gate = Gate(None, settings, clock)  # type: ignore[arg-type]
    admission = await gate.admit(issuer.token())
    await gate.check(admission)
    old = Admission(admission.principal, datetime.fromtimestamp(time.time() - 60, UTC))
    with pytest.raises(HttpError) as refused:
        await gate.check(old)
    assert refused.value.problem.code == "token_expired"
    await gate.close()
