"""Posts to an endpoint that a user named, and to nothing else that its name, or whoever answers, may lead to."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2

from sandgraph.errors import InvalidInput
from sandgraph.model.destinations import Address, Destination, Rules, parse_addresses

#: Asks for the addresses of a name.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

#: Of an answer's body so much is read, and thrown away: whoever answers may be somebody else's server.
MOST_READ = 4 * 1024

_CONNECT_S, _TOTAL_S = 5.0, 10.0

#: Addresses of one name that are tried.
_MOST_ADDRESSES = 3

#: Threads that wait for name servers; on the event loop's own, names that nobody answers for would hold up others.
_RESOLVERS = 8

_REDIRECTS = range(300, 400)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a post came to.

    Attributes:
        status: Of the answer; None where there was none.
        error: Why there was none, or why it does not do, as a stable word; None where all is well.
        latency_ms: How long it took.
        retry_after_s: Seconds that the server asked us to wait for.
    """

    status: int | None
    error: str | None
    latency_ms: float
    retry_after_s: float | None = None


class Poster:
    """Posts to public addresses, and to those that the operator allows.

    Args:
        rules: Which destinations are allowed.
        resolve: Instead of the system's resolver.
        context: Of TLS; without it, the system's authorities are trusted.
        total_s: Longest that a post takes.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
        total_s: float = _TOTAL_S,
    ) -> None:
        self._rules = rules
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="sandgraph-resolver")
        self._resolve = resolve or self._ask
        self._context = context
        self._total_s = total_s

    def close(self) -> None:
        """Let the threads go; one that waits for a name server ends with it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post a body, and say what came of it; nothing is raised, and no redirect is followed."""
        began = time.monotonic()
        status, retry_after_s, error = None, None, None
        try:
            async with asyncio.timeout(self._total_s):
                destination = self._rules.destination(url)
                addresses = await self._addresses(destination)
                if isinstance(addresses, str):
                    error = addresses
                else:
                    status, retry_after_s = await self._send(destination, addresses, headers, body)
                    error = _error_of(status)
        except InvalidInput:
            error = "url_not_allowed"
        except (TimeoutError, httpx2.TimeoutException):
            error = "timeout"
        except (httpx2.ConnectError, OSError):
            error = "connect_failed"
        except (httpx2.HTTPError, httpx2.InvalidURL):
            error = "answer_invalid"
        return Answer(status, error, round((time.monotonic() - began) * 1_000, 1), retry_after_s)

    async def _addresses(self, destination: Destination) -> Sequence[Address] | str:
        """Return the addresses that may be connected to, or why there is none.

        They are asked for once: a name server that says something else the next time is not asked again.
        """
        if destination.address is not None:
            return [destination.address]
        try:
            found = parse_addresses(await self._resolve(destination.host, destination.port))
        except (OSError, UnicodeError):
            return "name_not_resolved"
        except ValueError:
            return "address_not_allowed"
        if not found:
            return "name_not_resolved"
        # One that is not allowed among those that are is no mistake.
        if any(self._rules.refusal(address) for address in found):
            return "address_not_allowed"
        return found[:_MOST_ADDRESSES]

    async def _send(
        self, destination: Destination, addresses: Sequence[Address], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, float | None]:
        for address in addresses[:-1]:
            try:
                return await self._send_to(address, destination, headers, body)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._send_to(addresses[-1], destination, headers, body)

    async def _send_to(
        self, address: Address, destination: Destination, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, float | None]:
        # The address stands in the URL, so that nobody resolves the name again; who is asked for, and whose certificate
        # it has to be, is said beside it. A client of its own: no cookie and no connection is shared with another post.
        host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - of IP
        async with httpx2.AsyncClient(
            verify=self._verified(destination),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(self._total_s, connect=min(_CONNECT_S, self._total_s)),
        ) as client:
            request = client.build_request(
                "POST",
                f"{destination.scheme}://{host}:{destination.port}{destination.target}",
                content=body,
                headers={
                    "Host": destination.authority,
                    "User-Agent": "Sandgraph",
                    "Accept": "*/*",
                    "Accept-Encoding": "identity",
                    "Connection": "close",
                    **headers,
                },
                extensions={"sni_hostname": destination.host.rstrip(".")},
            )
            response = await client.send(request, stream=True)
            try:
                await _read_little(response)
            finally:
                await response.aclose()
        return response.status_code, _seconds(response.headers.get("retry-after"))

    def _verified(self, destination: Destination) -> ssl.SSLContext:
        if self._context is None:
            # Made once: to read the authorities takes a while.
            self._context = ssl.create_default_context()
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._context if destination.scheme == "https" else _NO_TLS

    async def _ask(self, host: str, port: int) -> Sequence[str]:
        ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(address[0]) for *_, address in found]


#: For plain http, which has none; a client without one would read the system's authorities each time.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _read_little(response: httpx2.Response) -> None:
    read = 0
    async for part in response.aiter_raw():
        read += len(part)
        if read >= MOST_READ:
            return


def _error_of(status: int) -> str | None:
    if httpx2.codes.is_success(status):
        return None
    return "redirected" if status in _REDIRECTS else "refused"


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None  # noqa: PLR2004
