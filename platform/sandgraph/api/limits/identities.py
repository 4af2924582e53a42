"""Whose requests are counted together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

from sandgraph.model.access import Principal

_READING = frozenset({"GET", "HEAD", "OPTIONS"})

#: Bits of an IPv6 address that one subscriber has.
_SUBSCRIBER_BITS = 64


def address_of(scope: Scope) -> str:
    """Return where a request comes from; of IPv6 addresses, the network that one subscriber has."""
    return network_of(scope.get("client"))


def network_of(client: Sequence[object] | None) -> str:
    """Return the same of an address and its port."""
    return _network_of(str(client[0]) if client else "")


@lru_cache(4_096)
def _network_of(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> _SUBSCRIBER_BITS << _SUBSCRIBER_BITS))
    return str(address)


def user_of(principal: Principal) -> str:
    """Return the key, or the user of an issuer."""
    return f"{principal.tenant}/{principal.key_id or principal.subject}"


def kind_of(scope: Scope) -> str:
    """Return what a request counts as: ``streams``, ``reads`` or ``writes``."""
    if scope["type"] == "websocket":
        return "streams"
    if scope["method"] not in _READING:
        return "writes"
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return "streams" if b"text/event-stream" in accepted else "reads"
