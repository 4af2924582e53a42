"""Who asks from where: what is shown to operators, and to nobody else."""

from __future__ import annotations

from ipaddress import ip_address

from starlette.requests import Request

from sandgraph.model.access import DEFAULT_TENANT, Principal, Scope

#: What a proxy adds: whoever it speaks for is somewhere else.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def may_look(request: Request) -> bool:
    """Tell whether somebody may see how the platform does: a program on its machine, or who looks for its operators.

    What it tells is of all tenants: keys of others than the operators' own do not open it.
    """
    principal = getattr(request.state, "principal", None)
    # Who came without credentials is nobody, and of no tenant.
    if isinstance(principal, Principal) and principal.tenant:
        return principal.tenant == DEFAULT_TENANT and bool(principal.scopes & {Scope.READ, Scope.ADMIN})
    return is_local(request)


def is_local(request: Request) -> bool:
    """Tell whether a program on this machine asks, and for itself."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
