"""Where the platform may send something that a user asked it to: to public addresses, and those an operator allows.

Whoever may name a URL could otherwise have the platform call what only it can reach: itself, its neighbours, the
cloud's metadata. So an address is judged once it is known, by what it is and not by how it was written, and whoever
connects does so to exactly the address that was judged.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sandgraph.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Longest URL.
MAX_URL = 2_048

_MAX_HOST = 253
_PORTS = {"https": 443, "http": 80}

# Any other character is read in one way by one program and in another by the next.
_PLAIN = re.compile(r"[!-~]+")
_AMBIGUOUS = re.compile(r"[\\^`{|}<>\"]")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_ENDS_IN_NUMBER = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$")

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")

#: Special by the registries of IANA, whatever this version of Python knows of them.
_SPECIAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        # Teredo, benchmarks and ORCHID are among the first; documentation, twice.
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
    )
)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a URL leads.

    Attributes:
        url: As it was given.
        scheme: ``https``, or ``http``.
        host: A name in lower case, or an address, without brackets.
        port: Of the server.
        target: Path and query.
        address: Of the host, where that is one.
    """

    url: str
    scheme: str
    host: str
    port: int
    target: str
    address: Address | None

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rules:
    """Which destinations are allowed.

    Attributes:
        networks: Networks that are allowed though they are not public.
        ports: Ports that are allowed; None for any.
        plain: Whether ``http`` is.
    """

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] | None = frozenset({443, 8443})
    plain: bool = False

    def refusal(self, address: Address) -> str | None:
        """Return why nothing may be sent to an address; None if it may be."""
        forms = _forms(address)
        if any(form in network for form in forms for network in self.networks if form.version == network.version):
            return None
        return next((f"{address} is no public address." for form in forms if not _is_public(form)), None)

    def destination(self, url: str, field: str = "url") -> Destination:
        """Read a URL.

        Raises:
            InvalidInput: It is none, or it leads where nothing may be sent; a name is judged once it is resolved.
        """
        read = _read(url, field)
        if read.scheme == "http" and not self.plain:
            raise _wrong(field, "It must begin with https://.")
        if self.ports is not None and read.port not in self.ports:
            ports = ", ".join(map(str, sorted(self.ports)))
            raise _wrong(field, f"Port {read.port} is not allowed; these are: {ports}.")
        if read.address is not None and (refusal := self.refusal(read.address)):
            raise _wrong(field, refusal)
        return read


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read networks that are separated by commas.

    Raises:
        ValueError: One of them is none.
    """
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def parse_ports(text: str) -> frozenset[int] | None:
    """Read ports that are separated by commas; ``any`` is None.

    Raises:
        ValueError: One of them is none.
    """
    if text.strip() == "any":
        return None
    return frozenset(int(part) for part in text.split(",") if part.strip())


def parse_addresses(found: Sequence[str]) -> list[Address]:
    """Return what a resolver answered, each once, in its order.

    Raises:
        ValueError: One of them is no address, or is good on one interface alone.
    """
    addresses = [ipaddress.ip_address(each) for each in dict.fromkeys(found)]
    if any(isinstance(each, ipaddress.IPv6Address) and each.scope_id for each in addresses):
        raise ValueError("an address of one interface alone")
    return addresses


def _forms(address: Address) -> list[Address]:
    """Return an address and the one that is inside it, which is where it leads."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address in _MAPPED:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if address in _6TO4:
        return [address, ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)]
    return [address]


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
        return False
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    # 6to4 is judged by what is inside it.
    is_6to4 = isinstance(address, ipaddress.IPv6Address) and address in _6TO4
    return is_6to4 or (address.is_global and not address.is_multicast)


def _read(url: str, field: str) -> Destination:
    if len(url) > MAX_URL:
        raise InvalidInput.at(field, "too_long", f"It may have {MAX_URL} characters.")
    if not _PLAIN.fullmatch(url) or _AMBIGUOUS.search(url):
        raise _wrong(
            field, "It may have printable ASCII only: write a name in its xn-- form, and escape what is in a path."
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _wrong(field, "It is no URL.") from None
    if parts.scheme not in _PORTS:
        raise _wrong(field, "It must begin with https://.")
    if "@" in parts.netloc or "%" in parts.netloc or parts.fragment:
        raise _wrong(field, "It may have no user, no escapes in its host, and no fragment.")
    if port == 0 or parts.netloc.endswith(":"):
        raise _wrong(field, "Its port is none.")
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    address = _literal(host, is_bracketed="[" in parts.netloc, field=field)
    return Destination(url, parts.scheme, host, port or _PORTS[parts.scheme], target, address)


def _literal(host: str, *, is_bracketed: bool, field: str) -> Address | None:
    """Return the address that a host is; None for a name."""
    try:
        if is_bracketed:
            return ipaddress.IPv6Address(host)
        if _ENDS_IN_NUMBER.search(host):
            # Decimal, octal and hexadecimal ones, and those of fewer parts, are what some programs take for addresses.
            return ipaddress.IPv4Address(host)
    except ValueError:
        raise _wrong(field, "Its host looks like an address, and is none in the usual form.") from None
    if len(host) > _MAX_HOST or not _NAME.fullmatch(host):
        raise _wrong(field, "Its host is no name.")
    return None


def _wrong(field: str, message: str) -> InvalidInput:
    return InvalidInput.at(field, "url_not_allowed", message)
