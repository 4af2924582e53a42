"""What is logged: one line each, found by its fields, and nothing secret in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sandgraph.telemetry import context, logs
from sandgraph.telemetry.redaction import HIDDEN, redacted, text_without_secrets

logger = logging.getLogger("sandgraph.test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave logging as it was: there is one for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in logs._TALKATIVE}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, its in quiet.items():
        logging.getLogger(name).setLevel(its)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(log_format: str = "json", stream: io.StringIO | None = None, level: str = "info") -> io.StringIO:
    stream = stream or io.StringIO()
    logs.configure(level, log_format, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_what_and_about_what() -> None:
    stream = configured()
    logger.warning("run %s put off", "r1", extra={"action": "run_put_off", "run": "r1"})
    (line,) = lines(stream)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "warning",
        "action": "run_put_off",
        "message": "run r1 put off",
        "logger": "sandgraph.test",
        "run": "r1",
    }


def test_a_message_stays_on_its_line_whatever_is_in_it() -> None:
    forged = 'a\n{"level":"error"}\r\x1b[2J\ud800'
    stream = configured()
    logger.info("%s", forged, extra={"action": "said", "node": forged})
    assert [line["action"] for line in lines(stream)] == ["said"]
    stream = configured("console")
    logger.info("%s", forged, extra={"action": "said", "node": forged})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_is_part_of_its_line() -> None:
    stream = configured()
    try:
        raise RuntimeError("broken")  # noqa: TRY301 - a traceback is wanted
    except RuntimeError:
        logger.exception("failed", extra={"action": "failed"})
    (line,) = lines(stream)
    assert "RuntimeError: broken" in line["exception"]


def test_libraries_lines_have_a_name_too() -> None:
    stream = configured()
    logging.getLogger("uvicorn.error").error("cannot bind")
    logging.getLogger("alembic.runtime").info("upgrade")
    logging.getLogger("urllib3.connectionpool").info("GET /containers")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", stacklevel=1)
        logging.captureWarnings(capture=False)
    assert [(line["logger"], line["action"]) for line in lines(stream)] == [
        ("uvicorn.error", "library"),
        ("alembic.runtime", "library"),
        ("py.warnings", "library"),
    ]


def test_structlogs_own_loggers_write_the_same_lines() -> None:
    stream = configured()
    structlog.get_logger("sandgraph.other").info("done", action="done", run="r1")
    (line,) = lines(stream)
    assert (line["action"], line["run"], line["logger"]) == ("done", "r1", "sandgraph.other")


def test_a_terminal_shows_it_to_people_and_a_file_to_programs() -> None:
    for_people, for_programs = configured("auto", Terminal()), io.StringIO()
    logger.info("hello", extra={"action": "hello"})
    configured("auto", for_programs)
    logger.info("hello", extra={"action": "hello"})
    assert "{" not in for_people.getvalue()
    assert "hello" in for_people.getvalue()
    assert lines(for_programs)[0]["message"] == "hello"


def test_the_level_is_the_least_that_is_written() -> None:
    stream = configured(level="warning")
    logger.info("no", extra={"action": "no"})
    logger.error("yes", extra={"action": "yes"})
    assert [line["action"] for line in lines(stream)] == ["yes"]


def test_tasks_say_what_they_work_on_and_nothing_of_each_other() -> None:
    stream = configured()

    async def attempt(run: str, node: str) -> None:
        context.begin(run=run)
        context.add(node=node, attempt=1)
        await asyncio.sleep(0)
        logger.info("working", extra={"action": "working"})

    async def scene() -> None:
        with context.bind(request_id="q1"):
            await asyncio.gather(attempt("r1", "a"), attempt("r2", "b"))
            logger.info("both", extra={"action": "both"})
        logger.info("none", extra={"action": "none"})

    asyncio.run(scene())
    first, second, both, none = lines(stream)
    assert [first["run"], first["node"], second["run"], second["node"]] == ["r1", "a", "r2", "b"]
    assert "request_id" not in first
    assert both["request_id"] == "q1"
    assert "run" not in both
    assert "request_id" not in none


SECRETS = [
    "Authorization: Bearer sg_live_abcdefghijklmnop",
    "basic dXNlcjpwYXNzd29yZA==",
    "postgresql+psycopg://sandgraph:hunter2hunter2@db.invalid/sandgraph",
    "postgresql://u:p@ss:w/rd@db.invalid/x",
    "GET /graph/ws/r1?ticket=abcdefgh12345678&after=3",
    "token=abcdefgh12345678",
    '{"password": "abcdefgh12345678"}',
    "X-Api-Key: abcdefgh12345678",
    "the key sg_abcdefgh12345678 was used",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhYmMifQ.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_text_shows_a_secret(text: str) -> None:
    hidden = ("hunter2", "p@ss", "w/rd", "abcdefgh12345678", "abcdefghijklmnop", "dXNlcjpw", "eyJzdWIi", "c2lnbmF0")
    stream = configured()
    logger.info(text, extra={"action": "said", "about": {"deep": [text]}})
    try:
        raise RuntimeError(text)  # noqa: TRY301 - a traceback is wanted
    except RuntimeError:
        logger.exception("failed", extra={"action": "failed"})
    assert HIDDEN in stream.getvalue()
    assert not [secret for secret in hidden if secret in stream.getvalue()]


@pytest.mark.parametrize(
    "name", ["authorization", "Cookie", "api_key", "password", "db_password", "ticket", "client_secret", "database_dsn"]
)
def test_no_field_of_that_name_shows_its_value(name: str) -> None:
    assert redacted({name: "value", "inner": {name: "value"}}) == {name: HIDDEN, "inner": {name: HIDDEN}}


@pytest.mark.parametrize(
    "text",
    [
        "run r1 put off: the database does not answer",
        "no route /graph/x",
        "idempotency_key",
        "monkey",
        "basic is a word",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert text_without_secrets(text) == text
    assert redacted({"key_id": "k1", "keys": 3, "tickets": 2}) == {"key_id": "k1", "keys": 3, "tickets": 2}


def test_a_long_text_is_cut() -> None:
    cut = redacted({"text": "x" * 1_000_000})["text"]
    assert len(str(cut)) < 20_000
    assert "1000000 characters" in str(cut)
