"""A tenant's webhooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandgraph.model import webhooks
from sandgraph.model.destinations import Rules, parse_networks, parse_ports
from sandgraph.model.webhooks import DeliveryStatus
from sandgraph.settings import Settings
from sandgraph.store.records import Page
from sandgraph.store.webhook_records import Changes, Delivery, NewWebhook, Webhook
from sandgraph.store.webhook_store import WebhookStore


def rules_of(settings: Settings) -> Rules:
    """Return where a deployment's webhooks may lead."""
    return Rules(
        parse_networks(settings.webhook_networks), parse_ports(settings.webhook_ports), plain=settings.webhook_http
    )


class TenantWebhooks:
    """The webhooks of one tenant; those of others are not found.

    Args:
        store: Of all tenants' webhooks.
        rules: Where they may lead.
        ring: Is called when there is something to be delivered.
        tenant: Whose.
    """

    def __init__(self, store: WebhookStore, rules: Rules, ring: Callable[[], None], tenant: str) -> None:
        self._store = store
        self._rules = rules
        self._ring = ring
        self._tenant = tenant

    async def create(
        self, url: str, events: Sequence[str], *, graph: str | None, description: str, secret: str | None, enabled: bool
    ) -> tuple[Webhook, str]:
        """Make a webhook, and return it and its secret, which is shown at no other time.

        Raises:
            InvalidInput: The URL leads where nothing may be sent (``url_not_allowed``).
            Conflict: There are as many as there may be (``too_many_webhooks``).
        """
        self._rules.destination(url)
        secret = secret or webhooks.new_secret()
        new = NewWebhook(url, tuple(events), graph, description, secret, enabled)
        return await self._store.create(self._tenant, new), secret

    async def get(self, webhook_id: str) -> Webhook:
        """Return a webhook, or raise NotFound."""
        return await self._store.get(self._tenant, webhook_id)

    async def page(self, *, cursor: str | None, limit: int) -> Page[Webhook]:
        """Return webhooks, newest first."""
        return await self._store.page(self._tenant, cursor=cursor, limit=limit)

    async def change(self, webhook_id: str, changes: Changes, version: int | None) -> Webhook:
        """Change a webhook.

        Raises:
            NotFound: There is none of that id.
            InvalidInput: The URL leads where nothing may be sent (``url_not_allowed``).
            Conflict: It is not of that version any more (``webhook_changed``).
        """
        if "url" in changes:
            self._rules.destination(str(changes["url"]))
        changed = await self._store.change(self._tenant, webhook_id, changes, version)
        self._ring()
        return changed

    async def rotate(self, webhook_id: str) -> tuple[Webhook, str]:
        """Give a webhook another secret, and return that too; the present one signs for one more day."""
        secret = webhooks.new_secret()
        return await self._store.rotate(self._tenant, webhook_id, secret), secret

    async def remove(self, webhook_id: str) -> Webhook:
        """Remove a webhook, and return it as it was."""
        return await self._store.remove(self._tenant, webhook_id)

    async def ping(self, webhook_id: str) -> Delivery:
        """Send a webhook something that says nothing.

        Raises:
            NotFound: There is none of that id.
            Conflict: It is disabled (``webhook_disabled``), or too much waits for it (``webhook_queue_full``).
        """
        made = await self._store.ping(self._tenant, webhook_id)
        self._ring()
        return made

    async def deliveries(
        self, webhook_id: str, *, status: DeliveryStatus | None, cursor: str | None, limit: int
    ) -> Page[Delivery]:
        """Return what a webhook was told, newest first."""
        return await self._store.deliveries(self._tenant, webhook_id, status=status, cursor=cursor, limit=limit)

    async def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Have a delivery made once more, under its own id; raises as `WebhookStore.again`."""
        made = await self._store.again(self._tenant, webhook_id, delivery_id)
        self._ring()
        return made
