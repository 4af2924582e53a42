"""Makes the application from the services behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

from fastapi import FastAPI

from sandgraph.api import problem
from sandgraph.api.auth.gate import Gate
from sandgraph.api.auth.middleware import Authentication
from sandgraph.api.deprecations import Deprecations
from sandgraph.api.guard import Guard
from sandgraph.api.limits.middleware import Doorkeeper, FairUse, Limits
from sandgraph.api.limits.shape import Shape
from sandgraph.api.once import Once
from sandgraph.api.openapi import Api
from sandgraph.api.routes import (
    access,
    code,
    control,
    errors,
    graphs,
    health,
    history,
    logs,
    runs,
    stream,
    tenants,
    webhooks,
)
from sandgraph.api.routes import metrics as metrics_route
from sandgraph.api.services import ServicesFor
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.spans import Spans


def create_app(
    services: ServicesFor,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    *,
    metrics: Metrics | None = None,
    spans: Spans | None = None,
    limits: Limits | None = None,
    gate: Gate | None = None,
) -> FastAPI:
    """Return the HTTP and WebSocket API.

    Args:
        services: What it works with, by tenant.
        lifespan: Runs around the server's life; whoever made the services starts and ends them there.
        metrics: Of the platform that serves; of the API alone without them.
        spans: Take what was done when.
        limits: How often people may ask; without them, as often as they like.
        gate: Lets people in; without one, whoever can call the application may do everything.
    """
    app = Api(
        title="Sandgraph",
        version=version("sandgraph"),
        lifespan=lifespan,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    app.state.limits = limits
    app.state.metrics = metrics = metrics or Metrics()
    app.state.gate = gate
    problem.install(app)
    # The last is the first to be asked.
    app.add_middleware(Deprecations)
    app.add_middleware(Once)
    app.add_middleware(FairUse)
    app.add_middleware(Authentication)
    app.add_middleware(Doorkeeper)
    app.add_middleware(Shape)
    app.add_middleware(Guard, metrics=metrics, spans=spans)
    # Graphs last: /graph/{graph_id} matches what others are called.
    first = (access, tenants, code, runs, history, logs, control, stream, webhooks, errors, health, metrics_route)
    for routes in (*first, graphs):
        # Not included as routers, which would be asked twice, each with all its routes.
        app.router.routes.extend(routes.router.routes)
    return app
