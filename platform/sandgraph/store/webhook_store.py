"""Webhooks and their deliveries, behind an asyncio face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from sandgraph.model.webhooks import DeliveryStatus
from sandgraph.store import webhook_deliveries as deliveries
from sandgraph.store import webhooks
from sandgraph.store.records import Page
from sandgraph.store.webhook_records import Changes, Delivery, NewWebhook, Parcel, Try, Webhook

P = ParamSpec("P")
T = TypeVar("T")


class Transactions(Protocol):
    """What does work on the database; see `Database`."""

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work over one snapshot."""

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in one transaction that writes."""


class WebhookStore:
    """The webhooks of all tenants; each method is one transaction, and raises `Unavailable` as `Store` does.

    Args:
        database: Where they are kept.
    """

    def __init__(self, database: Transactions) -> None:
        self._database = database

    async def create(self, tenant: str, new: NewWebhook) -> Webhook:
        """Keep a webhook.

        Raises:
            Conflict: The tenant has as many as it may have (``too_many_webhooks``).
        """
        return await self._database.write(webhooks.create, tenant, new)

    async def get(self, tenant: str, webhook_id: str) -> Webhook:
        """Return a webhook, or raise NotFound."""
        return await self._database.read(webhooks.get, tenant, webhook_id)

    async def page(self, tenant: str, *, cursor: str | None, limit: int) -> Page[Webhook]:
        """Return a tenant's webhooks, newest first."""
        return await self._database.read(webhooks.page, tenant, cursor, limit)

    async def change(self, tenant: str, webhook_id: str, changes: Changes, version: int | None) -> Webhook:
        """Change a webhook.

        Raises:
            NotFound: The tenant has none of that id.
            Conflict: It is not of that version any more (``webhook_changed``).
        """
        return await self._database.write(webhooks.change, tenant, webhook_id, changes, version)

    async def rotate(self, tenant: str, webhook_id: str, secret: str) -> Webhook:
        """Give a webhook another secret, or raise NotFound; the present one signs too for a day."""
        return await self._database.write(webhooks.rotate, tenant, webhook_id, secret)

    async def remove(self, tenant: str, webhook_id: str) -> Webhook:
        """Remove a webhook and all that it was told, and return it as it was, or raise NotFound."""
        return await self._database.write(webhooks.remove, tenant, webhook_id)

    async def ping(self, tenant: str, webhook_id: str) -> Delivery:
        """Keep a delivery that says nothing.

        Raises:
            NotFound: The tenant has none of that id.
            Conflict: It is disabled (``webhook_disabled``), or too much waits for it (``webhook_queue_full``).
        """
        delivery_id = await self._database.write(webhooks.ping, tenant, webhook_id)
        return await self._database.read(deliveries.get, tenant, webhook_id, delivery_id)

    async def deliveries(
        self, tenant: str, webhook_id: str, *, status: DeliveryStatus | None, cursor: str | None, limit: int
    ) -> Page[Delivery]:
        """Return what a webhook was told, newest first, or raise NotFound."""
        return await self._database.read(deliveries.page, tenant, webhook_id, status, cursor, limit)

    async def delivery(self, tenant: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Return a delivery, or raise NotFound."""
        return await self._database.read(deliveries.get, tenant, webhook_id, delivery_id)

    async def again(self, tenant: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Have a delivery made once more under its own id.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is still to be made (``delivery_pending``), the webhook is disabled (``webhook_disabled``), or
                too much waits for it (``webhook_queue_full``).
        """
        return await self._database.write(deliveries.again, tenant, webhook_id, delivery_id)

    # For who makes them

    async def next_due(self, at: datetime) -> datetime | None:
        """Return when the next delivery is to be made; None where there is none."""
        return await self._database.read(deliveries.next_due, at)

    async def claim(
        self, at: datetime, slots: int, under_way: Sequence[tuple[str, str]], hidden_s: float
    ) -> list[tuple[str, Parcel]]:
        """Take deliveries that are due, with the tenant of each; nobody else takes them for ``hidden_s`` seconds."""
        return await self._database.write(deliveries.claim, at, slots, under_way, hidden_s)

    async def release(self, delivery_id: str, at: datetime) -> None:
        """Give back a delivery that was taken and not tried."""
        await self._database.write(deliveries.release, delivery_id, at)

    async def settle(
        self,
        delivery_id: str,
        made: Try,
        *,
        is_delivered: bool,
        is_gone: bool,
        next_at: Callable[[int], datetime | None],
    ) -> None:
        """Store what a try came to; ``next_at`` says when the next one is, after so many."""
        await self._database.write(
            deliveries.settle, delivery_id, made, is_delivered=is_delivered, is_gone=is_gone, next_at=next_at
        )

    async def tidy(self, at: datetime, kept_since: datetime) -> int:
        """Give up and remove some of what is over, and return how many those were: to be called until it is 0."""
        given_up = await self._database.write(deliveries.give_up, at)
        old = await self._database.write(deliveries.prune, kept_since)
        return given_up + old + await self._database.write(deliveries.prune_many)
