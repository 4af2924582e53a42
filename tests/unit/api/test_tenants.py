"""Tenants over HTTP: their quotas, for who operates the deployment."""

from __future__ import annotations

from collections.abc import Iterator

import api_world
import pytest
from starlette.testclient import TestClient

from sandgraph.model.access import ALL_SCOPES, ANYBODY, Principal, Scope, is_operator


@pytest.fixture(autouse=True)
def _none_before_or_after() -> Iterator[None]:
    api_world.TENANTS.clear()
    yield
    api_world.TENANTS.clear()


def test_a_tenant_has_the_deployments_quotas_until_it_has_its_own(client: TestClient) -> None:
    answer = client.get("/tenants/acme")
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"0"'
    assert answer.json()["own"] == []
    assert answer.json()["use"] == {"active_runs": 4, "queued_runs": 0, "cpu_s_today": 1.5, "stored_bytes": 1_000}
    changed = client.put("/tenants/acme", json={"max_active_runs": 3, "stored_mb": None}, headers={"If-Match": '"0"'})
    assert changed.status_code == 200
    assert changed.headers["ETag"] == '"1"'
    assert changed.json()["quotas"]["max_active_runs"] == 3
    assert changed.json()["own"] == ["max_active_runs"]
    assert client.get("/tenants").json()["tenants"][0] == changed.json()


def test_quotas_are_changed_only_by_who_says_which(client: TestClient) -> None:
    unsaid = client.put("/tenants/acme", json={})
    assert (unsaid.status_code, unsaid.json()["code"]) == (428, "precondition_required")
    for tag, code in (('"7"', "tenant_changed"), ("nonsense", "precondition_failed"), ('W/"0"', "precondition_failed")):
        stale = client.put("/tenants/acme", json={}, headers={"If-Match": tag})
        assert (stale.status_code, stale.json()["code"]) == (412, code)
    assert client.put("/tenants/acme", json={}, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(
    ("quotas", "path", "code"),
    [
        ({"max_runs": 1}, "max_runs", "unknown_field"),
        ({"max_active_runs": -1}, "max_active_runs", "out_of_range"),
        ({"max_active_runs": 1.5}, "max_active_runs", "wrong_type"),
        ({"cpu_s_per_day": "1"}, "cpu_s_per_day", "wrong_type"),
    ],
)
def test_quotas_are_checked(client: TestClient, quotas: dict[str, object], path: str, code: str) -> None:
    answer = client.put("/tenants/acme", json=quotas, headers={"If-Match": "*"})
    assert answer.status_code == 422
    assert [(each["path"], each["code"]) for each in answer.json()["errors"]] == [(path, code)]


def test_what_can_be_no_tenant_is_not_found(client: TestClient) -> None:
    for answer in (client.get("/tenants/A%20B"), client.put("/tenants/-x", json={}, headers={"If-Match": "*"})):
        assert (answer.status_code, answer.json()["code"]) == (404, "tenant_not_found")


def test_who_administers_one_tenant_is_no_operator() -> None:
    assert is_operator(ANYBODY)
    assert is_operator(Principal("default", "key", frozenset({Scope.ADMIN})))
    assert not is_operator(Principal("default", "key", ALL_SCOPES - {Scope.ADMIN}))
    assert not is_operator(Principal("acme", "key", ALL_SCOPES))
