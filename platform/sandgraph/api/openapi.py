"""The API's own description: routes know their answers, and here the bodies that they read by themselves join them."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from sandgraph.api.auth.described import describe_security
from sandgraph.api.operations import complete
from sandgraph.api.schemas.access import ApiKeyDocument, TicketDocument
from sandgraph.api.schemas.annotations import AnnotationsDocument
from sandgraph.api.schemas.answers import ProblemAnswer
from sandgraph.api.schemas.code import FunctionSource, ToolSource
from sandgraph.api.schemas.control import EventDocument, ForkDocument, ReplayDocument, ResumeDocument
from sandgraph.api.schemas.examples import ANSWERS
from sandgraph.api.schemas.graph import GraphDocument
from sandgraph.api.schemas.run import RunDocument
from sandgraph.api.schemas.tenant import QuotaDocument
from sandgraph.api.schemas.webhook import WebhookChange, WebhookDocument

#: Models that no route names to the framework.
MODELS = (
    FunctionSource,
    ToolSource,
    GraphDocument,
    RunDocument,
    EventDocument,
    ForkDocument,
    ResumeDocument,
    ReplayDocument,
    WebhookDocument,
    WebhookChange,
    ApiKeyDocument,
    TicketDocument,
    AnnotationsDocument,
    QuotaDocument,
    ProblemAnswer,
)

DESCRIPTION = """
Runs graphs of Python functions that nobody has to trust: every node attempt in its own hard-limited container.

Register functions, create a graph of them, run it. Errors are `application/problem+json` with a stable `code` and the
path of each field that is wrong. Lists are paged: hand `next_cursor` back as `?cursor=`.

**WebSocket** `/graph/ws/{run_id}?after=N` sends a run's records as JSON, first those stored after number N, then live:
at least `seq`, `ts`, `node`, `status`, `message`. Text `ping` is answered `pong`. The last record has `"final": true`
and the run's status; then the server closes with 1000. An error is one record `{"error": …}`, then a close with 4404
(no such run) or 4422 (`after` is no number).
"""

TAGS = [
    {"name": "nodes", "description": "Functions that nodes run; versioned by their code."},
    {"name": "tools", "description": "Helpers that functions call; versioned by their code."},
    {"name": "graphs", "description": "Graphs: named, in immutable versions."},
    {"name": "runs", "description": "Executions of a graph version."},
    {"name": "errors", "description": "What each code means, and what to do."},
    {"name": "tenants", "description": "What tenants may use, for who operates the deployment."},
    {"name": "webhooks", "description": "Endpoints that are told of runs that end."},
    {"name": "access", "description": "Who may do what: API keys, and tickets for streams."},
    {"name": "health", "description": "For whoever operates the platform."},
]

_REFERENCE = "#/components/schemas/{model}"


class Api(FastAPI):
    """An application that describes the bodies its routes read by themselves."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, made once."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title,
                version=self.version,
                description=DESCRIPTION,
                tags=cast("list[dict[str, Any]]", TAGS),
                routes=self.routes,
                separate_input_output_schemas=False,
            )
            _, further = models_json_schema([(model, "validation") for model in MODELS], ref_template=_REFERENCE)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(further["$defs"])
            for name, example in ANSWERS.items():
                schemas[name]["examples"] = [example]
            describe_security(document, self.router, getattr(self.state, "gate", None))
            complete(document)
            self.openapi_schema = document
        return self.openapi_schema
