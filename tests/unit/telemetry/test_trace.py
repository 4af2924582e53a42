"""The traces of runs: from the request to the commit, over the platform's end, as a collector gets them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sandgraph import bootstrap
from sandgraph.api.app import create_app
from sandgraph.bootstrap import Platform, open_platform, services_of
from sandgraph.errors import ConfigurationError
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings
from sandgraph.store.filters import GraphFilter
from sandgraph.telemetry import trace
from sandgraph.telemetry.logs import fields_of
from sandgraph.telemetry.spans import Spans, WantedIds, open_spans

pytestmark = pytest.mark.anyio

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = CALLER.split("-")[1]
GRAPH = {
    "name": "traced",
    "nodes": [
        {"name": "start", "type": "start"},
        {"name": "first", "type": "standard", "function": "work"},
        {"name": "approval", "type": "wait", "event": "go"},
        {"name": "second", "type": "standard", "function": "work"},
        {"name": "end", "type": "end"},
    ],
    "edges": [
        {"source": "start", "target": "first"},
        {"source": "first", "target": "approval"},
        {"source": "approval", "target": "second"},
        {"source": "second", "target": "end"},
    ],
}
CODE = "def work(state):\n    print('working')\n    state.set('n', state.get('n', 0) + 1)\n"


@asynccontextmanager
async def served(folder: Path, **options: object) -> AsyncIterator[tuple[httpx2.AsyncClient, Platform]]:
    settings = load_settings(data_dir=folder, **options)
    async with open_platform(settings, sandboxes=InProcessSandboxes({})) as platform:
        app = create_app(services_of(platform), metrics=platform.metrics, spans=platform.spans)
        transport = httpx2.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://platform") as client:
            yield client, platform


async def begin(client: httpx2.AsyncClient, **headers: str) -> str:
    """Start a run, and return once it waits for its event."""
    (await client.post("/nodes/register", json={"name": "work", "code": CODE})).raise_for_status()
    graph = (await client.post("/graph/create", json=GRAPH)).raise_for_status().json()
    body = {"graph_id": graph["graph_id"], "initial_state": {}}
    answer = await client.post("/graph/run_async", json=body, headers=headers)
    run_id: str = answer.raise_for_status().json()["run_id"]
    return run_id


async def until(client: httpx2.AsyncClient, platform: Platform, run_id: str, status: str) -> dict[str, Any]:
    async for records in platform.runs.follow(run_id, 0):
        if any(record.type == "run" and record.status == status for record in records):
            break
    found: dict[str, Any] = (await client.get(f"/graph/status/{run_id}")).json()
    return found


async def whole_run(folder: Path, **options: object) -> tuple[str, dict[str, Any]]:
    """Begin a run on one platform, and have it go on on another."""
    async with served(folder, **options) as (client, platform):
        run_id = await begin(client, traceparent=CALLER)
        await until(client, platform, run_id, "waiting")
    async with served(folder, **options) as (client, platform):
        (await client.post(f"/graph/event/{run_id}", json={"name": "go"})).raise_for_status()
        return run_id, await until(client, platform, run_id, "completed")


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    kept = InMemorySpanExporter()

    def opened(_endpoint: str | None, **_: object) -> Spans:
        provider = TracerProvider(id_generator=WantedIds(), shutdown_on_exit=False)  # type: ignore[arg-type]
        provider.add_span_processor(SimpleSpanProcessor(kept))
        return Spans(provider.get_tracer("test"))

    monkeypatch.setattr(bootstrap, "open_spans", opened)
    return kept


def hex_ids(span: ReadableSpan) -> tuple[str, str, str | None]:
    own = span.context
    parent = f"{span.parent.span_id:016x}" if span.parent else None
    return f"{own.trace_id:032x}", f"{own.span_id:016x}", parent


def tree(spans: tuple[ReadableSpan, ...], root: str) -> dict[str, Any]:
    """Return what is under a span, as nested names in order of their beginning."""
    children = [span for span in spans if hex_ids(span)[2] == root]
    children.sort(key=lambda span: (span.start_time or 0, span.name))
    return {span.name: tree(spans, hex_ids(span)[1]) for span in children if span.name != "slot wait"}


async def test_a_run_is_one_tree_over_the_platforms_end(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    run_id, status = await whole_run(tmp_path)
    spans = tuple(span for span in exporter.get_finished_spans() if hex_ids(span)[0] == TRACE_ID)
    inside = {name: set(found) for name, found in tree(spans, status["trace"]["span_id"]).items()}
    assert all({"execute", "commit"} <= found <= {"sandbox lease", "execute", "commit"} for found in inside.values())
    assert list(inside) == ["attempt first", "attempt second"]
    (request,) = [span for span in spans if span.name == "POST /graph/run_async"]
    (run,) = [span for span in spans if span.name == "run traced"]
    assert hex_ids(request)[2] == CALLER.split("-")[2]
    assert hex_ids(run)[2] == hex_ids(request)[1]
    assert status["trace"] == {"trace_id": TRACE_ID, "span_id": hex_ids(run)[1]}
    assert run.attributes is not None
    assert run.attributes["sandgraph.run"] == run_id
    assert len({hex_ids(span)[1] for span in spans}) == len(spans)
    for span in spans:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


async def test_records_of_an_attempt_name_its_span(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    async with served(tmp_path) as (client, platform):
        run_id = await begin(client, traceparent=CALLER)
        status = await until(client, platform, run_id, "waiting")
        (line,) = (await client.get(f"/graph/logs/{run_id}")).json()["records"]
        records = [record async for batch in _some(platform, run_id) for record in batch]
    (attempt,) = [span for span in exporter.get_finished_spans() if span.name == "attempt first"]
    assert line["trace"] == {"trace_id": TRACE_ID, "span_id": hex_ids(attempt)[1]}
    assert status["trace"]["trace_id"] == TRACE_ID
    assert {str(each.trace)[3:35] for each in records} == {TRACE_ID}
    of_run = [each.trace for each in records if each.attempt is None]
    assert {each.span_id for each in of_run if each} == {status["trace"]["span_id"]}


async def _some(platform: Platform, run_id: str) -> AsyncIterator[list[Any]]:
    yield list(await platform.store.journal(run_id, limit=100))


async def test_lines_that_are_logged_meanwhile_name_the_trace(
    exporter: InMemorySpanExporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sandgraph.access")
    lines: list[dict[str, object]] = []

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(fields_of(record))

    access = logging.getLogger("sandgraph.access")
    access.addHandler(seen := Seen())
    try:
        async with served(tmp_path) as (client, _):
            await client.get("/graph/list", headers={"traceparent": CALLER})
    finally:
        access.removeHandler(seen)
    (span,) = [span for span in exporter.get_finished_spans() if span.name == "GET /graph/list"]
    assert (lines[0]["trace_id"], lines[0]["span_id"]) == hex_ids(span)[:2]


async def test_without_a_collector_the_callers_trace_is_still_kept(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, platform):
        run_id = await begin(client, traceparent=CALLER)
        found = await until(client, platform, run_id, "waiting")
        assert found["trace"]["trace_id"] == TRACE_ID
        assert (await platform.store.run_summary(run_id)).traceparent == CALLER
        other = await begin(client)
        assert (await until(client, platform, other, "waiting"))["trace"] is None


async def test_a_run_of_no_request_begins_a_trace(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    async with served(tmp_path) as (client, platform):
        await begin(client)
        graph = (await platform.store.list_graphs(GraphFilter(name="traced"))).items[0]
        run, _ = await platform.runs.submit(graph.graph_id, {})
        found = await until(client, platform, run.run_id, "waiting")
    assert found["trace"] is not None
    attempts = [span for span in exporter.get_finished_spans() if span.name == "attempt first"]
    assert found["trace"]["trace_id"] in {hex_ids(span)[0] for span in attempts}


async def test_what_the_caller_does_not_record_is_not_recorded(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    async with served(tmp_path) as (client, platform):
        run_id = await begin(client, traceparent=CALLER[:-1] + "0")
        await until(client, platform, run_id, "waiting")
    assert not [span for span in exporter.get_finished_spans() if hex_ids(span)[0] == TRACE_ID]


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP, as a collector does."""

    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        if self.headers.get("Content-Encoding") == "gzip":
            raise AssertionError("not asked for")
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    received: list[ExportTraceServiceRequest] = []
    handler = type("Handler", (Collector,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


async def test_a_collector_gets_the_same_tree_over_http(
    collector: tuple[str, list[ExportTraceServiceRequest]], tmp_path: Path
) -> None:
    address, received = collector
    run_id, status = await whole_run(tmp_path, otel_endpoint=address)
    resources = [each for request in received for each in request.resource_spans]
    spans = [span for each in resources for scope in each.scope_spans for span in scope.spans]
    ours = [span for span in spans if span.trace_id.hex() == TRACE_ID]
    names = sorted(span.name for span in ours if span.name not in {"slot wait", "sandbox lease"})
    assert names == [
        "POST /graph/run_async",
        "attempt first",
        "attempt second",
        "commit",
        "commit",
        "execute",
        "execute",
        "run traced",
    ]
    (run,) = [span for span in ours if span.name == "run traced"]
    assert run.span_id.hex() == status["trace"]["span_id"]
    assert {span.parent_span_id.hex() for span in ours if span.name.startswith("attempt")} == {run.span_id.hex()}
    assert {each.key: each.value.string_value for each in run.attributes}["sandgraph.run"] == run_id
    services = {
        attribute.value.string_value
        for each in resources
        for attribute in each.resource.attributes
        if attribute.key == "service.name"
    }
    assert services == {"sandgraph"}


def test_a_collector_without_the_libraries_is_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"otel_endpoint: .*sandgraph\[otel\]"):
        open_spans("http://127.0.0.1:4318", ratio=1, attributes={})
    assert not open_spans(None, ratio=1, attributes={}).is_on


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        CALLER[:-3],
        CALLER.upper(),
        f"{CALLER}-more",
        CALLER.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert trace.parse(text) is None


def test_a_traceparent_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    span = trace.parse(f"01-{TRACE_ID}-00f067aa0ba902b7-03-more")
    assert span == trace.SpanRef(TRACE_ID, "00f067aa0ba902b7", is_sampled=True)
    assert str(span) == CALLER


def test_a_ratio_says_which_part_of_the_traces_is_recorded() -> None:
    never = Spans(TracerProvider().get_tracer("test"), ratio=0).root()
    always = Spans(TracerProvider().get_tracer("test"), ratio=1).root()
    assert never is not None
    assert always is not None
    assert (never.is_sampled, always.is_sampled) == (False, True)
    assert Spans().root() is None
