"""Answers are kept for two days, each tenant's by itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, select, update

from sandgraph.store.kept_answers import KEPT_FOR
from sandgraph.store.records import KeptAnswer
from sandgraph.store.store import Store
from sandgraph.store.tables import kept_answer

pytestmark = pytest.mark.anyio

ANSWER = KeptAnswer("0" * 64, 201, {"location": "/graph/g"}, '{"text":"\\u0000é"}')
PLACE = ("a", "POST /graph/create", "one\nkey")


async def test_an_answer_is_found_by_its_tenant_its_route_and_its_key(store: Store) -> None:
    await store.answers.keep(*PLACE, ANSWER)
    assert await store.answers.find(*PLACE) == ANSWER
    for other in (("b", *PLACE[1:]), (PLACE[0], "POST /keys", PLACE[2]), (*PLACE[:2], "two\nkey")):
        assert await store.answers.find(*other) is None


async def test_the_first_answer_stays(store: Store) -> None:
    await store.answers.keep(*PLACE, ANSWER)
    await store.answers.keep(*PLACE, KeptAnswer("1" * 64, 200, {}, "{}"))
    assert await store.answers.find(*PLACE) == ANSWER


async def test_old_answers_are_forgotten(store: Store) -> None:

    def shift(connection: Connection) -> None:
        moments = connection.execute(select(kept_answer.c.key, kept_answer.c.created_at)).all()
        for key, moment in moments:
            old = moment - KEPT_FOR - timedelta(seconds=1)
            connection.execute(update(kept_answer).where(kept_answer.c.key == key).values(created_at=old))

    for number in range(5):
        await store.answers.keep("a", "POST /keys", str(number), ANSWER)
    await store._database.write(shift)
    assert await store.answers.find("a", "POST /keys", "3") is None
    await store.answers.keep("a", "POST /keys", "3", KeptAnswer("1" * 64, 200, {}, "{}"))
    found = await store.answers.find("a", "POST /keys", "3")
    assert found is not None
    assert found.fingerprint == "1" * 64
    count = select(func.count()).select_from(kept_answer)
    assert await store._database.read(lambda connection: connection.scalar(count)) == 1
