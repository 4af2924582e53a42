"""Tenants: what they may use, for who operates the deployment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Path
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from sandgraph.api.body import body_of
from sandgraph.api.etags import etag_of_revision, expected_revisions
from sandgraph.api.problem import HttpError
from sandgraph.api.reply import reply
from sandgraph.api.routes.common import BODY, Administers, IfMatch, Listing, answers, takes
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.tenant import QuotaDocument, TenantAnswer, TenantList, parse_quotas
from sandgraph.api.schemas.tree import shown
from sandgraph.api.services import Services
from sandgraph.errors import Conflict, NotFound, Problem
from sandgraph.model.access import ANYBODY, TENANT_PATTERN, Principal, is_operator
from sandgraph.store.records import TenantRecord

router = router_of("tenants")

_ETAG = {"ETag": "Of these quotas, for If-Match."}

Tenant = Annotated[str, Path(description="The tenant.")]


async def operating(connection: HTTPConnection, uses: Administers) -> Services:
    """Return what the operator may use.

    Raises:
        HttpError: Whoever asks administers one tenant alone.
    """
    principal: Principal = getattr(connection.state, "principal", ANYBODY)
    if not is_operator(principal):
        message = "Tenants are managed by administrators of the tenant default alone."
        raise HttpError(HTTPStatus.FORBIDDEN, Problem("", "operator_required", message))
    return uses


Operator = Annotated[Services, Depends(operating)]


@router.get("/tenants", summary="List tenants", responses=answers({200: (TenantList, "A page.")}, 403, 422, 503))
async def list_tenants(query: Listing, uses: Operator) -> Response:
    """List the tenants that have keys, graphs or quotas of their own, by name."""
    page = await uses.tenants.page(cursor=query.cursor, limit=query.limit)
    return reply({"tenants": [_view(uses, each) for each in page.items], "next_cursor": page.next_cursor})


@router.get(
    "/tenants/{tenant}",
    summary="Read a tenant's quotas, and what it uses",
    responses=answers({200: (TenantAnswer, "The tenant.")}, 403, 404, 422, 503, headers=_ETAG),
)
async def read_tenant(tenant: Tenant, uses: Operator) -> Response:
    """Read what a tenant may use, and what it uses now. Any name may be one: it has the deployment's quotas then."""
    return _answer(uses, await uses.tenants.get(_known(tenant)))


@router.put(
    "/tenants/{tenant}",
    summary="Give a tenant quotas of its own",
    responses=answers({200: (TenantAnswer, "As it is now.")}, *BODY, 404, 412, 428, 503, headers=_ETAG),
    openapi_extra=takes(QuotaDocument),
)
async def set_quotas(
    tenant: Tenant,
    quotas: Annotated[Mapping[str, float], Depends(body_of(parse_quotas))],
    uses: Operator,
    request: Request,
    _if_match: IfMatch = None,
) -> Response:
    """Give a tenant quotas in the place of those that it had of its own; they hold from now on."""
    try:
        changed = await uses.tenants.set(_known(tenant), quotas, expected_revisions(request))
    except Conflict as conflict:
        problem = Problem("If-Match", conflict.code, conflict.message)
        raise HttpError(HTTPStatus.PRECONDITION_FAILED, problem) from None
    return _answer(uses, changed)


def _known(tenant: str) -> str:
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise NotFound("tenant", shown(tenant))
    return tenant


def _answer(uses: Services, record: TenantRecord) -> Response:
    return reply(_view(uses, record), headers={"ETag": etag_of_revision(record.version)})


def _view(uses: Services, record: TenantRecord) -> dict[str, object]:
    return {
        "tenant": record.tenant,
        "quotas": asdict(uses.tenants.of(record.tenant)),
        "own": sorted(record.quotas),
        "use": asdict(uses.tenants.use(record.tenant)),
        "version": record.version,
        "created_at": record.created_at and record.created_at.isoformat(),
        "updated_at": record.updated_at and record.updated_at.isoformat(),
    }
