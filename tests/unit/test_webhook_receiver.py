"""The receiver that the documentation shows, run as it stands there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from sandgraph.model.webhooks import new_secret, signature

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
BODY = b'{"type": "run.completed", "timestamp": "now", "data": {"run_id": "run_1"}}'


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The receiver's URL, its secret, and its process."""
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    script = tmp_path / "receiver.py"
    script.write_text(source)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    secret = new_secret()
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(port)},
    )
    for _ in range(200):
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/", secret, process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def sent(url: str, secrets: list[str], body: bytes = BODY, *, age_s: int = 0) -> int:
    stamp = int(time.time()) - age_s
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(stamp),
        "webhook-signature": signature(secrets, "msg_1", stamp, BODY),
    }
    return httpx2.post(url, content=body, headers=headers, trust_env=False).status_code


def test_it_takes_what_is_signed_and_nothing_else(receiver: tuple[str, str, subprocess.Popen[str]]) -> None:
    url, secret, process = receiver
    assert sent(url, [secret]) == 204
    assert sent(url, [new_secret(), secret]) == 204
    assert sent(url, [new_secret()]) == 401
    assert sent(url, [secret], BODY + b" ") == 401
    assert sent(url, [secret], age_s=600) == 401
    process.kill()
    assert process.stdout is not None
    # Two came, with one id.
    assert process.stdout.read() == "run.completed {'run_id': 'run_1'}\n"
