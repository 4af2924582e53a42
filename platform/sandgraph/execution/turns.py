"""Turns: many readers get what is new a few at a time, so that runs find their turn on the event loop in between."""

from __future__ import annotations

import asyncio
from collections import deque

#: Up to so many readers nobody waits for a turn.
FEW = 16

#: Records handed out before the others on the event loop come first again.
_AT_ONCE = 8

#: Of the time that handing out takes, so many times as long the event loop is left to others.
_REST = 3.0

_SHORTEST_REST_S, _LONGEST_REST_S = 0.001, 0.05


class Turns:
    """Who waits gets a turn in the order of asking."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._task: asyncio.Task[None] | None = None

    def ask(self, future: asyncio.Future[None], records: int) -> None:
        """Have a future done once it is its turn; who has it hands out so many records then."""
        self._waiting.append((future, records))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._go_round(), name="turns")

    async def take(self, records: int) -> None:
        """Return once it is the caller's turn."""
        future = asyncio.get_running_loop().create_future()
        self.ask(future, records)
        await future

    async def close(self) -> None:
        """Let everybody go at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting:
            _let_go(self._waiting.popleft()[0])

    async def _go_round(self) -> None:
        loop, due_s = asyncio.get_running_loop(), 0.0
        while self._waiting:
            began, left = loop.time(), _AT_ONCE
            while self._waiting and left > 0:
                future, records = self._waiting.popleft()
                left -= _let_go(future) * records
            # They hand out what they have in this round of the loop.
            await asyncio.sleep(0)
            due_s += (loop.time() - began) * _REST
            if due_s > _SHORTEST_REST_S:
                await asyncio.sleep(min(due_s, _LONGEST_REST_S))
                due_s = 0.0


def _let_go(future: asyncio.Future[None]) -> bool:
    if future.done():
        return False
    future.set_result(None)
    return True
