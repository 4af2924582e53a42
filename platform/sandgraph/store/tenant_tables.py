"""The tables of tenants: what they may use, and what they used."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field

from sandgraph.store.columns import JsonText, UtcTime
from sandgraph.store.table import Table


class TenantRow(Table, table=True):
    """A tenant that has quotas of its own."""

    __tablename__ = "tenant"

    tenant: str = Field(primary_key=True)
    quotas: dict[str, float] = Field(sa_type=JsonText)
    version: int
    created_at: datetime = Field(sa_type=UtcTime)
    updated_at: datetime = Field(sa_type=UtcTime)


class TenantUsageRow(Table, table=True):
    """What a tenant's attempts used on a day."""

    __tablename__ = "tenant_usage"

    tenant: str = Field(primary_key=True)
    day: str = Field(primary_key=True, description="In UTC, as 2026-11-23.")
    cpu_s: float
    attempts: int
