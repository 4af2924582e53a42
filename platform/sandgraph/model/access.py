"""Who asks, for whom, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: The tenant of a deployment that runs open, of the Python API, and of all that was stored before there were tenants.
DEFAULT_TENANT = "default"

#: What a tenant is called.
TENANT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"


class Scope(StrEnum):
    """What a principal may do; none of them includes another.

    ``submit`` registers and starts, ``read`` looks, ``operate`` changes what runs, ``admin`` manages who may do what.
    """

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        tenant: Whose graphs, functions, tools, runs and logs it sees; for it there are no others.
        subject: What it is called in logs: a key's id, or the issuer's name for a user.
        scopes: What it may do.
        key_id: Of the API key, where it came with one.
    """

    tenant: str
    subject: str
    scopes: frozenset[Scope]
    key_id: str | None = None


def is_operator(principal: Principal) -> bool:
    """Tell whether somebody manages all tenants: administrators of the tenant that is there from the start."""
    return principal.tenant == DEFAULT_TENANT and Scope.ADMIN in principal.scopes


#: Everybody, where a deployment runs open.
ANYBODY = Principal(DEFAULT_TENANT, "anybody", ALL_SCOPES)
