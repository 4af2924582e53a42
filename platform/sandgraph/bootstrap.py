"""The composition root: every part is made here, and nowhere else, and closed in the opposite order."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sandgraph.api.auth.gate import Gate
from sandgraph.api.schemas import parse_graph
from sandgraph.api.services import Services, ServicesFor
from sandgraph.execution.catalog import Catalog
from sandgraph.execution.deliveries import Deliverer
from sandgraph.execution.dispatcher import Dispatcher
from sandgraph.execution.health import Health
from sandgraph.execution.heart import Heart
from sandgraph.execution.metering import MeteredTransport
from sandgraph.execution.posting import Poster
from sandgraph.execution.quotas import TenantQuotas
from sandgraph.execution.runtimes import runtimes_of
from sandgraph.execution.tenancy import TenantCatalog, TenantReader, TenantRuns
from sandgraph.execution.webhooks import TenantWebhooks, rules_of
from sandgraph.execution.worker import Worker
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Sandboxes
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind, CodeSource
from sandgraph.store.store import Store
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.spans import Spans, open_spans
from sandgraph.telemetry.watchdog import Watchdog
from sandgraph.workflows import builtin_workflows


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform.

    Attributes:
        settings: It was made with.
        store: Holds everything that is kept.
        sandboxes: Where submitted code runs.
        catalog: Takes functions, tools and graphs.
        runs: Takes runs.
        heart: Says that this process is there, and notices if another one took its place.
        health: Whether all that works.
        metrics: What is counted and measured of all that.
        spans: What was done when, for a collector of traces.
        deliverer: Tells webhooks what they are owed.
        gate: Lets people in.
        worker: Runs attempts.
        quotas: What tenants may use, and use.
    """

    settings: Settings
    store: Store
    sandboxes: Sandboxes
    catalog: Catalog
    runs: Dispatcher
    heart: Heart
    health: Health
    metrics: Metrics
    spans: Spans
    deliverer: Deliverer
    gate: Gate
    quotas: TenantQuotas
    worker: Worker

    async def drain(self, within_s: float) -> bool:
        """Take no more work, let the attempts in progress end and be stored, and tell whether all of them did.

        Args:
            within_s: Seconds that they get.
        """
        await self.runs.stop_taking()
        try:
            async with asyncio.timeout(within_s):
                await self.worker.drain()
                await self.runs.quiet()
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def open_platform(settings: Settings, *, sandboxes: Sandboxes | None = None) -> AsyncIterator[Platform]:
    """Start every part, and close them all at the end of the block: no container is left then.

    Args:
        settings: Of the deployment.
        sandboxes: Instead of the pool of containers.

    Raises:
        ConfigurationError: The settings cannot work; the database cannot be opened.
        EngineUnavailable: The Docker engine does not answer, or lacks the image or the runtime.
    """
    async with AsyncExitStack() as stack:
        process_id = new_process_id()
        spans = open_spans(
            settings.otel_endpoint, ratio=settings.otel_ratio, attributes={"service.instance.id": process_id}
        )
        stack.push_async_callback(asyncio.to_thread, spans.close)
        store = await Store.open(
            settings.data_dir,
            database_url=settings.database_url,
            process_id=process_id,
            takeover_after_s=settings.lease_s,
        )
        stack.push_async_callback(store.close)
        metrics = Metrics(by_tenant=settings.metrics_tenant_label)
        store.watch(metrics.transaction)
        heart = Heart(store, settings.lease_s)
        heart.start()
        stack.push_async_callback(heart.stop)
        settings = settings.model_copy(update={"deployment": settings.deployment or deployment_of(settings.data_dir)})
        if sandboxes is None:
            sandboxes = SandboxPool(settings, metrics=metrics)
        stack.push_async_callback(sandboxes.close)
        await sandboxes.start()
        worker = Worker(sandboxes, settings.worker_slots)
        facts = sandboxes.facts()
        allowed = runtimes_of(settings, facts)
        quotas = TenantQuotas(store.tenants, settings)
        stack.push_async_callback(quotas.close)
        metered = MeteredTransport(worker, quotas, settings.max_run_output_mb, store.tenants.output_of)
        runs = Dispatcher(store, metered, settings, str(facts.get("image", "")), allowed, metrics, spans, quotas=quotas)
        stack.push_async_callback(runs.close)
        await quotas.start(runs.go_on, runs.load_of)
        heart.on_lost(runs.abandon)
        await install_workflows(store, settings)
        deliverer = Deliverer(store.webhooks, Poster(rules_of(settings)), metrics=metrics, spans=spans)
        deliverer.start()
        stack.push_async_callback(deliverer.close)
        await runs.start()
        gate = Gate(store.keys, settings)
        stack.push_async_callback(gate.close)
        watchdog = Watchdog(metrics, settings.loop_stall_s)
        watchdog.start()
        stack.push_async_callback(watchdog.stop)
        health = Health(settings, store, sandboxes, runs, heart, watchdog, metrics)
        stack.push_async_callback(health.stop)
        platform = Platform(
            settings=settings,
            store=store,
            sandboxes=sandboxes,
            catalog=Catalog(store, sandboxes, settings, allowed),
            runs=runs,
            heart=heart,
            health=health,
            metrics=metrics,
            spans=spans,
            deliverer=deliverer,
            gate=gate,
            worker=worker,
            quotas=quotas,
        )
        metrics.watch(lambda: gauges_of(platform))
        yield platform


def new_process_id() -> str:
    """Return what names this start of the platform, and no other."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def deployment_of(data_dir: Path) -> str:
    """Return the name of the deployment that uses a data folder: made up once, and kept there.

    Two platforms on one engine would remove each other's sandboxes if their deployments had one name.
    """
    file = data_dir / "deployment"
    if not file.exists():
        file.write_text(f"{uuid.uuid4().hex[:12]}\n", encoding="ascii")
    return file.read_text(encoding="ascii").strip()


async def install_workflows(store: Store, settings: Settings) -> None:
    """Register the workflows that come with Sandgraph, unless these versions of them were registered before.

    What a user registered since under one of their names stays the latest version.
    """
    workflows = builtin_workflows()
    functions = (
        CodeSource(CodeKind.FUNCTION, name, code) for each in workflows for name, code in each.functions.items()
    )
    tools = (
        CodeSource(CodeKind.TOOL, name, tool.code, tool.description)
        for each in workflows
        for name, tool in each.tools.items()
    )
    await store.install([*functions, *tools], [parse_graph(dict(each.graph), settings) for each in workflows])


def gauges_of(platform: Platform) -> dict[str, float | Mapping[str, float]]:
    """Return what metrics look up when somebody asks for them."""
    facts, runs = platform.sandboxes.facts(), platform.runs.facts()
    named = {"idle": "waiting", "starting": "starting", "leased": "leased", "kept": "kept", "wanted": "wanted"}
    sandboxes = {state: float(str(facts[name])) for state, name in named.items() if name in facts}
    return {
        "runs_active": runs["active_runs"],
        "runs_queued": runs["queued_runs"],
        "pool_sandboxes": sandboxes,
        "disk_free_bytes": shutil.disk_usage(platform.settings.data_dir).free,
    }


def services_of(platform: Platform) -> ServicesFor:
    """Return what the API needs of a platform, by tenant."""
    rules = rules_of(platform.settings)
    answers = platform.store.answers

    def services_for(tenant: str) -> Services:
        return Services(
            settings=platform.settings,
            catalog=TenantCatalog(platform.catalog, tenant),
            runs=TenantRuns(platform.runs, platform.store, tenant),
            reader=TenantReader(platform.store, tenant),
            webhooks=TenantWebhooks(platform.store.webhooks, rules, platform.deliverer.ring, tenant),
            health=platform.health,
            tenants=platform.quotas,
            answers=answers,
        )

    return services_for
