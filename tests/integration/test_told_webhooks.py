"""Webhooks of a platform as it is served: told of each end, also where the platform dies right after it."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from served import serve

from sandgraph.model.webhooks import signature

pytestmark = pytest.mark.docker

Json = dict[str, Any]

HERE = {"webhook_http": "true", "webhook_ports": "any", "webhook_networks": "127.0.0.0/8"}


@contextmanager
def receiver(port: int) -> Iterator[list[tuple[dict[str, str], bytes]]]:
    """Take what is told on a port of loopback, for the length of the block."""
    told: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_end_is_told_though_nobody_listened_and_the_platform_was_killed_after_it(
    tmp_path: Path, deployment: Callable[[], str]
) -> None:
    name = deployment()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serve(tmp_path, name, **HERE) as platform:
        hook = platform.post("/webhooks", {"url": f"http://127.0.0.1:{port}/hook?a=b"})
        refused = platform.post("/webhooks", {"url": "http://169.254.169.254/"}, expected=(422,))
        assert refused["code"] == "url_not_allowed"
        result = platform.run_function("def f(state):\n    state.set('secret', 'hush')\n", name="f")
        platform.process.send_signal(signal.SIGKILL)
        platform.process.wait(10)
    with receiver(port) as told, serve(tmp_path, name, **HERE) as platform:
        path = f"/webhooks/{hook['webhook_id']}/deliveries"
        deadline = time.monotonic() + 60
        while platform.get(path)["deliveries"][0]["status"] != "delivered":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (headers, body), *more = told
        assert more == []
        event: Json = json.loads(body)
        assert (event["type"], event["data"]["run_id"]) == ("run.completed", result["run_id"])
        assert b"hush" not in body
        stamp = int(headers["webhook-timestamp"])
        assert headers["webhook-signature"] == signature([hook["secret"]], headers["webhook-id"], stamp, body)
        (delivery,) = platform.get(path)["deliveries"]
        assert delivery["delivery_id"] == headers["webhook-id"]
        assert delivery["tries"][-1]["status"] == 204
        platform.post(f"{path}/{delivery['delivery_id']}/redeliver", {})
        platform.post(f"/webhooks/{hook['webhook_id']}/test", {})
        while len(told) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert sorted(headers["webhook-id"] == delivery["delivery_id"] for headers, _ in told) == [False, True, True]
