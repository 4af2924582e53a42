"""An answer that goes on as long as there is something to be told: server-sent events, or lines of text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandgraph.api.following import PlatformStops
from sandgraph.api.problem import describe
from sandgraph.api.reply import to_json
from sandgraph.store.records import JournalRecord

logger = logging.getLogger(__name__)

EVENTS = "text/event-stream"

#: Seconds after which a client that takes nothing is given up, and after which one that has nothing to take is told
#: that the connection lives: whatever stands in between forgets connections that are silent for long.
SEND_TIMEOUT_S = 30.0
HEARTBEAT_S = 15.0

#: Milliseconds after which a client comes back by itself.
_RETRY_MS = 2_000


class Live(Response):
    """Tells what comes, and ends after the last of it, or when the client is gone or takes nothing.

    Args:
        records: What is told.
        shown: How a record is written.
        media_type: Of the whole; events have heartbeats.
    """

    def __init__(
        self, records: AsyncGenerator[list[JournalRecord]], shown: Callable[[JournalRecord], str], media_type: str
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        # Proxies that gather answers would hold every line back.
        quick = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Type": media_type}
        self.init_headers(quick)
        del self.headers["content-length"]
        self._records = records
        self._shown = shown
        self._is_events = media_type == EVENTS
        self._turn = asyncio.Lock()
        self._is_silent = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        tasks = [asyncio.create_task(self._tell(send)), asyncio.create_task(_gone(receive))]
        if self._is_events:
            tasks.append(asyncio.create_task(self._beat(send)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done() and not tasks[0].cancelled() and tasks[0].exception() is None:
                await self._say(send, "", more=False)
        except (TimeoutError, OSError):
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        try:
            async with aclosing(self._records) as batches:
                if self._is_events:
                    await self._say(send, f"retry: {_RETRY_MS}\n\n")
                async for batch in batches:
                    # One piece for all of it, and no word of it once it is on its way.
                    piece = "".join(map(self._shown, batch))
                    del batch
                    await self._say(send, piece)
        except PlatformStops:
            # The client comes back with the last number that it saw.
            if self._is_events:
                with suppress(TimeoutError, OSError):
                    await self._say(send, ": the platform stops; come back with Last-Event-ID\n\n")
        except (TimeoutError, OSError):
            logger.info("slow reader given up", extra={"action": "reader_given_up"})
            raise
        except Exception as error:
            members, _ = describe(error)
            if int(str(members["status"])) >= 500:  # noqa: PLR2004 - ours
                logger.exception("live log failed", extra={"action": "stream_failed"})
            if self._is_events:
                with suppress(TimeoutError, OSError):
                    await self._say(send, f"event: error\ndata: {to_json(members)}\n\n")

    async def _beat(self, send: Send) -> None:
        while True:
            self._is_silent = True
            await asyncio.sleep(HEARTBEAT_S)
            if self._is_silent:
                await self._say(send, ": alive\n\n")

    async def _say(self, send: Send, text: str, *, more: bool = True) -> None:
        async with self._turn, asyncio.timeout(SEND_TIMEOUT_S):
            self._is_silent = False
            body = text.encode("utf-8", "replace")
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
