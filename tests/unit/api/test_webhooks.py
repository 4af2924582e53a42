"""Webhooks over HTTP: their secrets are shown once, and two who change one do not undo each other."""

from __future__ import annotations

from typing import Any

import pytest
from api_world import World
from starlette.testclient import TestClient

from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.model.webhooks import is_secret

URL = "https://example.com/hooks"


def made(client: TestClient, **more: object) -> dict[str, Any]:
    answer = client.post("/webhooks", json={"url": URL, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_webhook_is_made_read_listed_and_removed(client: TestClient) -> None:
    answer = client.post("/webhooks", json={"url": URL, "events": ["run.failed", "run.failed"], "graph": "double"})
    webhook = answer.json()
    assert answer.headers["location"] == f"/webhooks/{webhook['webhook_id']}"
    assert (webhook["events"], webhook["graph"], webhook["enabled"]) == (["run.failed"], "double", True)
    read = client.get(answer.headers["location"])
    assert {**read.json(), "secret": webhook["secret"]} == webhook
    assert client.get("/webhooks").json() == {"webhooks": [read.json()], "next_cursor": None}
    assert client.delete(answer.headers["location"]).json() == read.json()
    assert client.get(answer.headers["location"]).json()["code"] == "webhook_not_found"


def test_the_secret_is_shown_when_it_is_made_and_never_again(client: TestClient) -> None:
    webhook = made(client)
    assert is_secret(webhook["secret"])
    path = f"/webhooks/{webhook['webhook_id']}"
    rotated = client.post(f"{path}/rotate").json()
    assert is_secret(rotated["secret"])
    assert rotated["secret"] != webhook["secret"]
    shown = [
        client.get(path),
        client.get("/webhooks"),
        client.patch(path, json={"enabled": False}),
        client.delete(path),
    ]
    assert not any("whsec_" in answer.text for answer in shown)


def test_a_secret_of_ones_own_is_taken_if_it_is_long_enough(client: TestClient) -> None:
    own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert made(client, secret=own)["secret"] == own
    refused = client.post("/webhooks", json={"url": URL, "secret": "whsec_c2hvcnQ="}).json()
    assert [(each["path"], each["code"]) for each in refused["errors"]] == [("secret", "invalid_value")]


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({}, "url", "missing_field"),
        ({"url": "http://example.com/"}, "url", "url_not_allowed"),
        ({"url": "https://127.0.0.1/"}, "url", "url_not_allowed"),
        ({"url": URL, "events": []}, "events", "too_short"),
        ({"url": URL, "events": ["run.started"]}, "events[0]", "unknown_value"),
        ({"url": URL, "tenant": "other"}, "tenant", "unknown_field"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(client: TestClient, body: object, path: str, code: str) -> None:
    answer = client.post("/webhooks", json=body)
    assert answer.status_code == 422
    assert [(each["path"], each["code"]) for each in answer.json()["errors"]] == [(path, code)]
    assert client.get("/webhooks").json()["webhooks"] == []


def test_who_changes_an_older_version_is_told(client: TestClient) -> None:
    path = f"/webhooks/{made(client)['webhook_id']}"
    etag = client.get(path).headers["etag"]
    first = client.patch(path, json={"description": "first"}, headers={"If-Match": etag})
    assert first.status_code == 200
    assert first.headers["etag"] != etag
    for stale in (etag, f"W/{first.headers['etag']}", '"nothing"', "1"):
        second = client.patch(path, json={"description": "second"}, headers={"If-Match": stale})
        assert (second.status_code, second.json()["code"]) == (412, "webhook_changed")
    assert client.get(path).json()["description"] == "first"
    for fresh in (first.headers["etag"], "*"):
        assert client.patch(path, json={"description": "third"}, headers={"If-Match": fresh}).status_code == 200


def test_a_change_leaves_what_it_does_not_name(client: TestClient) -> None:
    webhook = made(client, graph="double", description="kept", events=["run.failed"])
    changed = client.patch(f"/webhooks/{webhook['webhook_id']}", json={"enabled": False, "graph": None}).json()
    assert changed == {
        **{name: value for name, value in webhook.items() if name != "secret"},
        "enabled": False,
        "graph": None,
        "version": 2,
    }
    wrong = client.patch(f"/webhooks/{webhook['webhook_id']}", json={"url": "https://10.0.0.1/"})
    assert wrong.json()["code"] == "url_not_allowed"


def test_a_webhook_can_be_tried_out_and_told_again(client: TestClient) -> None:
    path = f"/webhooks/{made(client)['webhook_id']}"
    tried = client.post(f"{path}/test")
    assert (tried.status_code, tried.json()["event"], tried.json()["run_id"]) == (202, "webhook.test", None)
    assert client.get(f"{path}/deliveries").json() == {"deliveries": [tried.json()], "next_cursor": None}
    assert client.get(f"{path}/deliveries?status=failed").json()["deliveries"] == []
    again = client.post(f"{path}/deliveries/{tried.json()['delivery_id']}/redeliver")
    assert (again.status_code, again.json()["code"]) == (409, "delivery_pending")
    assert client.post(f"{path}/deliveries/msg_0/redeliver").json()["code"] == "delivery_not_found"


def test_no_more_than_a_bounded_number_is_made(client: TestClient) -> None:
    for _ in range(20):
        made(client)
    refused = client.post("/webhooks", json={"url": URL})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhooks")


def test_the_services_of_a_tenant_have_its_webhooks(world: World) -> None:
    assert world.services(DEFAULT_TENANT).webhooks is world.webhooks
