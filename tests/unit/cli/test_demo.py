"""What the demo prints, without a platform."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from sandgraph.cli import demo as shown
from sandgraph.cli.main import main
from sandgraph.errors import SandgraphError

WIDTH = 80


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=WIDTH, highlight=False)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_of_nodes_fits_a_terminal_of_80_columns(console: Console) -> None:
    usage = {
        "wall_s": 12.345,
        "queue_s": 10.0,
        "start_s": 2.345,
        "cpu_s": 12.345,
        "peak_memory_bytes": 2**20 * 123.4,
        "output_bytes": 1234,
    }
    nodes: list[object] = [
        {"node": "suggest_improvements", "iteration": 12, "status": "succeeded", "attempts": [{"usage": usage}]},
        {"node": "end", "iteration": 1, "status": "skipped", "attempts": []},
    ]
    shown._show_nodes(console, {"node_runs": nodes})
    lines = text_of(console).splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    (row,) = [line.split() for line in lines if "suggest_improvements" in line]
    expected = "suggest_improvements 12 succeeded 12345 ms 12345 ms 12345 ms 123.4 MiB 1234 B"
    assert row == expected.split()


def test_a_diffs_lines_are_whole_and_cannot_drive_the_terminal(console: Console) -> None:
    shown._show_result(console, {"diff": f"@@ -1 +1 @@\n-{'x' * 200}\n+\x1b[2J", "quality_score": 5})
    lines = text_of(console).splitlines()
    assert "-" + "x" * 200 in lines
    assert "+\N{REPLACEMENT CHARACTER}[2J" in lines


class _Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(413)
        self.end_headers()
        self.wfile.write(json.dumps({"status": 413, "code": "body_too_large", "detail": "It is too large."}).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.anyio
async def test_what_the_platform_refuses_is_told_as_it_says_it(refusing: str) -> None:
    with pytest.raises(SandgraphError, match=r"It is too large\. \(413 body_too_large\)"):
        await shown._call(refusing)


@pytest.mark.parametrize("threshold", ["11", "-1", "nan", "inf"])
def test_a_threshold_that_is_no_score_is_refused_before_anything_starts(
    threshold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", f"--threshold={threshold}"]) == 1
    assert capsys.readouterr().err == "sandgraph: threshold: A quality score lies between 0 and 10.\n"


def test_a_file_that_is_no_text_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "latin.py"
    file.write_bytes(b"x = '\xe9'\n")
    assert main(["demo", str(file)]) == 1
    assert "latin.py cannot be read" in capsys.readouterr().err
