"""A run's journal over a WebSocket: what is stored, then what comes, up to the run's end."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing, suppress

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from sandgraph.api.following import PlatformStops, as_log, as_record, start_of, told
from sandgraph.api.problem import describe
from sandgraph.api.reply import to_json
from sandgraph.api.routes.common import LARGEST, Reads, known_id
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.logs import StreamParameters, parse_parameters
from sandgraph.api.services import Services
from sandgraph.errors import InvalidInput, SandgraphError

logger = logging.getLogger(__name__)

router = router_of()

#: Close codes of our own are 4000 and the HTTP status that would have been answered.
_PRIVATE = 4_000
_NORMAL, _POLICY, _TOO_BIG, _INTERNAL, _RESTART, _TRY_LATER = 1000, 1008, 1009, 1011, 1012, 1013

#: Clients only say ``ping``.
_MAX_MESSAGE = 1_024

#: Messages that a client may send within as many seconds.
_MAX_MESSAGES, _PER_S = 100, 10.0

#: Seconds after which a client that takes nothing is given up.
SEND_TIMEOUT_S = 30.0


class _Closing(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Line:
    """The sending side: one message at a time, each within its time; nothing is queued here."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._turn = asyncio.Lock()

    async def say(self, *texts: str) -> None:
        loop = asyncio.get_running_loop()
        async with self._turn:
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S) as patience:
                    began = loop.time()
                    for text in texts:
                        await self._websocket.send_text(text)
                        if loop.time() - began > 1:
                            # Each has its time, however many there are.
                            began = loop.time()
                            patience.reschedule(began + SEND_TIMEOUT_S)
            except TimeoutError:
                raise _Closing(_TRY_LATER, "too slow; reconnect with ?after=") from None


@router.websocket("/graph/ws/{run_id}")
async def follow_run(websocket: WebSocket, run_id: str, uses: Reads) -> None:
    """Send a run's records after ``?after=N``, or those that the other parameters name; answer ``ping`` with ``pong``.

    After the run's end it closes with 1000.
    """
    await websocket.accept()
    line = _Line(websocket)
    try:
        _after(websocket.query_params.get("after"))
        parameters = parse_parameters(StreamParameters, websocket.query_params)
        await _converse(websocket, line, uses, known_id("run", run_id), parameters)
        closing = _Closing(_NORMAL, "the run ended")
    except SandgraphError as error:
        closing = await _tell(line, error)
    except _Closing as asked:
        closing = asked
    except WebSocketDisconnect:
        return
    except Exception as error:
        logger.exception("stream failed", extra={"action": "stream_failed", "run": run_id})
        closing = await _tell(line, error)
    if websocket.application_state is WebSocketState.CONNECTED:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await websocket.close(closing.code, closing.reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return


async def _converse(
    websocket: WebSocket, line: _Line, uses: Services, run_id: str, parameters: StreamParameters
) -> None:
    """Send and listen at the same time, until the run ended or the client is gone; leave nothing behind."""
    sending = asyncio.create_task(_send(line, uses, run_id, parameters))
    listening = asyncio.create_task(_listen(websocket, line))
    try:
        await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
        for task in (listening, sending):
            if task.done():
                task.result()
    finally:
        sending.cancel()
        listening.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)


async def _send(line: _Line, uses: Services, run_id: str, parameters: StreamParameters) -> None:
    wanted = parameters.wanted(events=parameters.events)
    shown = as_record if parameters.events else as_log
    after = await start_of(uses, run_id, parameters, wanted)
    try:
        async with aclosing(told(uses, run_id, after, wanted)) as batches:
            async for batch in batches:
                texts = list(map(shown, batch))
                # What is on its way to a slow client is nothing else any more.
                del batch
                await line.say(*texts)
    except PlatformStops:
        raise _Closing(_RESTART, "the platform stops; reconnect with ?after=") from None


async def _listen(websocket: WebSocket, line: _Line) -> None:
    loop = asyncio.get_running_loop()
    since, count = loop.time(), 0
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1005)
        said = message.get("text") or message.get("bytes") or ""
        if len(said) > _MAX_MESSAGE:
            raise _Closing(_TOO_BIG, f"a message may have {_MAX_MESSAGE} bytes")
        if loop.time() - since > _PER_S:
            since, count = loop.time(), 0
        count += 1
        if count > _MAX_MESSAGES:
            raise _Closing(_POLICY, "too many messages")
        if said == "ping":
            await line.say("pong")


async def _tell(line: _Line, error: Exception) -> _Closing:
    """Send an error as the one record of the conversation, and return how to close."""
    members, _ = describe(error)
    status = int(str(members["status"]))
    with suppress(_Closing, WebSocketDisconnect, RuntimeError):
        await line.say(to_json({"error": members}))
    return _Closing(_PRIVATE + status if status < 500 else _INTERNAL, str(members["code"]))  # noqa: PLR2004 - ours


def _after(text: str | None) -> None:
    if text is not None and not (re.fullmatch(r"[0-9]{1,19}", text) and int(text) <= LARGEST):
        raise InvalidInput.at("after", "out_of_range", "It must be an integer from 0: the last number that was seen.")
