"""Webhooks that are there, and are told nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.destinations import Rules
from sandgraph.model.webhooks import DeliveryStatus, new_secret
from sandgraph.store.records import Page
from sandgraph.store.webhook_records import Delivery, Try, Webhook

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class FakeWebhooks:
    hooks: dict[str, Webhook] = field(default_factory=dict)
    told: dict[str, Delivery] = field(default_factory=dict)

    async def create(
        self, url: str, events: Sequence[str], *, graph: str | None, description: str, secret: str | None, enabled: bool
    ) -> tuple[Webhook, str]:
        Rules().destination(url)
        if len(self.hooks) >= 20:
            raise Conflict("There are 20 webhooks already; remove one first.", code="too_many_webhooks")
        made = Webhook(
            f"webhook_{len(self.hooks) + 1}", "default", url, tuple(events), graph, description, enabled, None, 1, 0,
            None, 0, 0, NOW, NOW,
        )  # fmt: skip
        self.hooks[made.webhook_id] = made
        return made, secret or new_secret()

    async def get(self, webhook_id: str) -> Webhook:
        if webhook_id not in self.hooks:
            raise NotFound("webhook", webhook_id)
        return self.hooks[webhook_id]

    async def page(self, *, cursor: str | None, limit: int) -> Page[Webhook]:
        start = int(cursor or 0)
        newest = list(self.hooks.values())[::-1][start:]
        return Page(tuple(newest[:limit]), str(start + limit) if len(newest) > limit else None)

    async def change(self, webhook_id: str, changes: Mapping[str, object], version: int | None) -> Webhook:
        known = await self.get(webhook_id)
        if "url" in changes:
            Rules().destination(str(changes["url"]))
        if version not in {None, known.version}:
            raise Conflict("It was changed meanwhile.", code="webhook_changed")
        self.hooks[webhook_id] = replace(known, version=known.version + 1, **changes)  # type: ignore[arg-type]
        return self.hooks[webhook_id]

    async def rotate(self, webhook_id: str) -> tuple[Webhook, str]:
        return await self.change(webhook_id, {}, None), new_secret()

    async def remove(self, webhook_id: str) -> Webhook:
        known = await self.get(webhook_id)
        del self.hooks[webhook_id]
        return known

    async def ping(self, webhook_id: str) -> Delivery:
        await self.get(webhook_id)
        tries = (Try(NOW, 503, 12.5, "refused"),)
        pending = DeliveryStatus.PENDING
        made = Delivery(
            f"msg_{len(self.told) + 1}", webhook_id, "webhook.test", None, pending, 1, tries, NOW, NOW, None
        )
        self.told[made.delivery_id] = made
        return made

    async def deliveries(
        self, webhook_id: str, *, status: DeliveryStatus | None, cursor: str | None, limit: int
    ) -> Page[Delivery]:
        await self.get(webhook_id)
        assert cursor is None
        found = [each for each in self.told.values() if status in {None, each.status}]
        return Page(tuple(found[::-1][:limit]), None)

    async def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        await self.get(webhook_id)
        if delivery_id not in self.told:
            raise NotFound("delivery", delivery_id)
        if self.told[delivery_id].status is DeliveryStatus.PENDING:
            raise Conflict("It is still to be made.", code="delivery_pending")
        return self.told[delivery_id]
