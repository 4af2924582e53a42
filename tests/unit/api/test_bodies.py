"""Bodies: bounded while they arrive, kind in what does no harm, and never the cause of a 5xx."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from api_world import World
from effort import part_of
from hypothesis import HealthCheck, given
from hypothesis import settings as tests
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sandgraph.api import body as body_module
from sandgraph.api.app import create_app
from sandgraph.api.body import MAX_NESTING, parse_json
from sandgraph.api.problem import HttpError
from sandgraph.api.schemas import parse_graph
from sandgraph.api.schemas.code import FunctionSource, ToolSource
from sandgraph.api.schemas.graph import EdgeDocument, GraphDocument, LimitsDocument, NodeDocument
from sandgraph.api.schemas.run import RunDocument
from sandgraph.errors import InvalidInput
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.settings import Settings, load_settings

DOUBLE = {"name": "double", "code": "def double(state): return 2"}
LIMIT = 64 * 1024


def padded(size: int) -> bytes:
    text = json.dumps(DOUBLE)
    return (text[:-1] + " " * (size - len(text)) + "}").encode()


def in_chunks(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(client: TestClient, world: World, *, chunked: bool) -> None:
    def post(body: bytes) -> int:
        content = in_chunks(body, 1_000) if chunked else body
        answer = client.post("/nodes/register", content=content)
        assert ("content-length" in answer.request.headers) is not chunked
        if answer.status_code == 413:
            assert answer.json()["code"] == "body_too_large"
        return answer.status_code

    assert post(padded(LIMIT + 1)) == 413
    assert world.stored()[0] == {}
    assert post(padded(LIMIT)) == 201
    # A document that would be right if only its end were read is not read.
    assert post(b" " * LIMIT + padded(100)) == 413


def test_a_body_without_end_is_not_read_to_its_end(client: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100 * LIMIT:
            sent += 1_000
            yield b" " * 1_000

    assert client.post("/nodes/register", content=endless()).status_code == 413


@pytest.mark.anyio
async def test_a_client_that_asks_before_sending_is_told_at_once(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /nodes/register HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\nExpect: 100-continue\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        await reader.read()  # to the end: the server does not wait for that body
    writer.close()


@pytest.mark.anyio
async def test_a_client_that_sends_too_much_gets_to_read_why(port: int) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for body in (padded(3 * LIMIT), padded(LIMIT + 1)):
            answer = await client.post("/nodes/register", content=body)
            assert answer.json()["code"] == "body_too_large"
        assert (await client.post("/nodes/register", json=DOUBLE)).status_code == 201


@pytest.mark.anyio
async def test_a_body_that_does_not_arrive_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "_GRACE_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /nodes/register HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()


@pytest.mark.anyio
async def test_a_client_that_breaks_off_leaves_no_error(
    port: int, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /nodes/register HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await asyncio.sleep(0.1)
    assert world.stored()[0] == {}
    assert not [each for each in caplog.records if each.levelname in {"WARNING", "ERROR"}]


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", None],
)
def test_json_is_read_whatever_its_type_says(client: TestClient, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert client.post("/nodes/register", content=json.dumps(DOUBLE), headers=headers).status_code == 201


def test_a_byte_order_mark_does_no_harm(client: TestClient) -> None:
    assert client.post("/nodes/register", content=b"\xef\xbb\xbf" + json.dumps(DOUBLE).encode()).status_code == 201


def test_forms_with_parts_are_refused(client: TestClient) -> None:
    answer = client.post("/nodes/register", files={"code": b"def f(): 0"})
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


def test_compressed_bodies_are_refused(client: TestClient) -> None:
    body = gzip.compress(json.dumps(DOUBLE).encode())
    answer = client.post("/nodes/register", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_encoding"


def test_the_deepest_nesting_that_is_parsed_is_parsed() -> None:
    text = "[" * MAX_NESTING + "]" * MAX_NESTING
    assert parse_json(text.encode())
    assert parse_json(json.dumps("[" * 10_000).encode()) == "[" * 10_000
    with pytest.raises(HttpError, match="nested"):
        parse_json(f"[{text}]".encode())


def test_the_deepest_state_that_a_deployment_may_allow_goes_in_and_out(tmp_path: Path) -> None:
    world = World.make(load_settings(data_dir=tmp_path, max_state_depth=500))
    graph = Graph("g", (Node("s", NodeType.START), Node("e", NodeType.END)), (Edge("s", "e"),))
    deep: object = 1
    for level in range(500):
        deep = [deep] if level % 2 else {"a": deep}
    with TestClient(create_app(world.services)) as client:
        graph_id = asyncio.run(world.catalog.create_graph(graph))[0].graph_id
        answer = client.post("/graph/run", json={"graph_id": graph_id, "initial_state": {"deep": deep}})
        assert answer.status_code == 200
        assert answer.json()["final_state"]["data"]["deep"] == deep


HOSTILE = {
    "brackets": "[" + "[]," * 160_000 + "1]",
    "objects": "[" + "{}," * 160_000 + "1]",
    "quotes": '["' + '\\"' * 250_000 + '"]',
    "an open string": "[" * 600 + "a" * 250_000 + '"' + "\\" * 250_000,
    "strings": "[" + '"[",' * 100_000 + "1]",
    "numbers": "[" + "1," * 250_000 + "1]",
    "long numbers": "[" + "1" * 500_000 + "]",
    "surrogates": "[" + '"\\ud83d\\ude00",' * 35_000 + "1]",
    "deep and wide": "[" * 500 + "1," * 220_000 + "1" + "]" * 500,
    "deep and wide with a key twice": "[" * 500 + '{"a":1,"a":1},' * 35_000 + "1" + "]" * 500,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_half_a_megabyte_of_malice_takes_a_bounded_time(text: str) -> None:
    begun = time.process_time()
    with suppress(HttpError):
        parse_json(text.encode())
    assert time.process_time() - begun < 2


def test_a_graph_of_countless_errors_takes_a_bounded_time(settings: Settings) -> None:
    begun = time.process_time()
    documents: list[dict[str, object]] = [
        {"nodes": [{}] * 500_000},
        {f"f{i}": 1 for i in range(150_000)},
        {"name": "g", "nodes": [{f"f{i}": 1 for i in range(30_000)}] * 5},
        {"name": "g", "nodes": [{"name": "a", "retry": {"on": [1] * 500_000}}] * 5},
        {"name": "g", "nodes": [{"name": "a", "limits": {f"f{i}": 1 for i in range(30_000)}}] * 5},
    ]
    for document in documents:
        with pytest.raises(InvalidInput):
            parse_graph(document, settings)
    assert time.process_time() - begun < 2


def test_an_answer_lists_so_many_errors_and_no_more(client: TestClient) -> None:
    nodes = [{f"f{i}": 1 for i in range(30)}] * 5
    answer = client.post("/graph/create", json={"name": "g", "nodes": nodes})
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 100
    # Each of five nodes has thirty fields too many, and no name.
    assert answer.json()["detail"].endswith("(and 154 more)")


FIELDS = {
    *FunctionSource.model_fields,
    *ToolSource.model_fields,
    *GraphDocument.model_fields,
    *NodeDocument.model_fields,
    *EdgeDocument.model_fields,
    *LimitsDocument.model_fields,
    *RunDocument.model_fields,
}


def json_values() -> st.SearchStrategy[object]:
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters())
        | st.sampled_from(["start", "end", "loop", "standard", "double", "gr_1", "s"])
    )
    names = st.sampled_from(sorted(FIELDS))
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=3), inner, max_size=8),
        max_leaves=30,
    )


ROUTES = ["/nodes/register", "/tools/register", "/graph/create", "/graph/run", "/graph/run_async"]
FUZZ = tests(
    max_examples=part_of(50),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(route=st.sampled_from(ROUTES), document=json_values())
def test_no_document_makes_a_server_error(client: TestClient, route: str, document: object) -> None:
    answer = client.post(route, content=json.dumps(document))
    assert answer.status_code < 500


@FUZZ
@given(
    route=st.sampled_from(ROUTES),
    body=st.binary(max_size=200) | st.text('{}[]",:\\u019dNe.- \n', max_size=60).map(str.encode),
)
def test_no_bytes_make_a_server_error(client: TestClient, route: str, body: bytes) -> None:
    assert 400 <= client.post(route, content=body).status_code < 500
