"""``sandgraph demo``: the code review workflow on a real file, from the platform's start to the last trace removed."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from websockets.asyncio.client import connect

from sandgraph.cli.common import AddParser, add_settings, log_to_stderr, settings_of
from sandgraph.cli.serve import running
from sandgraph.errors import InvalidInput, SandgraphError
from sandgraph.sandbox.reaper import count_containers
from sandgraph.settings import Access, Settings
from sandgraph.workflows import sample_source

JsonObject = dict[str, object]

#: The highest quality score.
_BEST = 10

#: What the table of node runs shows of each, by column.
_USAGE = ("wall", "waited", "CPU", "memory", "output")

_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}

_STYLES = {"succeeded": "green", "completed": "green", "failed": "red", "error": "red", "skipped": "dim"}


def add_parser(add: AddParser) -> argparse.ArgumentParser:
    """Offer the subcommand."""
    command = add("demo", help="run the code review workflow on a file and show what happens")
    command.add_argument("file", nargs="?", type=Path, help="Python file to review; without it, a sample")
    command.add_argument("--threshold", type=float, default=8.0, help="quality score to reach, 0 to 10 (default: 8)")
    add_settings(command)
    return command


def run(options: argparse.Namespace) -> int:
    """Show the workflow; 0 where it completed and left nothing behind."""
    settings = settings_of(options)
    log_to_stderr("warning")
    return asyncio.run(demo(settings, options.file, options.threshold))


async def demo(settings: Settings, file: Path | None, threshold: float) -> int:
    """Start a platform of its own, review ``file``, show the way there, and remove every trace.

    Returns:
        0 if the workflow completed and nothing was left behind, else 1.

    Raises:
        InvalidInput: The file cannot be read as text, or the threshold is no score.
        SandgraphError: The platform refused the file; it is too large, for one.
        EngineUnavailable: The Docker engine does not answer, or lacks the runner image.
    """
    console = Console(highlight=False)
    name, code = _read(file)
    if not 0 <= threshold <= _BEST:
        raise InvalidInput.at("threshold", "out_of_range", f"A quality score lies between 0 and {_BEST}.")
    with tempfile.TemporaryDirectory(prefix="sandgraph-demo-") as folder:
        # Whom the deployment lets in is not asked: nobody else gets to hear of this one.
        mine = {"port": 0, "host": "127.0.0.1", "access": Access.AUTO, "oidc_issuer": ""}
        own = settings.model_copy(update={**mine, "data_dir": Path(folder), "deployment": f"demo-{os.getpid()}"})
        console.print("Starting the platform: sandboxes are being warmed up …")
        async with running(own) as serving:
            url = serving.url
            console.print(
                f"[bold]Sandgraph[/] serves {url}; reviewing [bold]{name}[/] ({len(code.splitlines())} lines)\n"
            )
            completed = await _review(console, url, name, code, threshold)
        left = await count_containers(own)
    console.print(f"Platform stopped. Containers left: {left}; data folder removed.")
    return 0 if completed and not left else 1


def _read(file: Path | None) -> tuple[str, str]:
    if file is None:
        return "the sample module", sample_source()
    try:
        return file.name, file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput.at("file", "unreadable_file", f"{file} cannot be read: {error}") from None


async def _review(console: Console, url: str, name: str, code: str, threshold: float) -> bool:
    graphs = cast("list[JsonObject]", (await _call(f"{url}/graph/list?name=code_review"))["graphs"])
    state = {"code": code, "filename": name, "quality_threshold": threshold}
    run = await _call(f"{url}/graph/run_async", {"graph_id": graphs[0]["graph_id"], "initial_state": state})
    run_id = str(run["run_id"])
    console.print(f"POST {url}/graph/run_async → {run_id}")
    console.print(f"WS   {url.replace('http', 'ws')}/graph/ws/{run_id}\n")
    async with connect(f"{url.replace('http', 'ws')}/graph/ws/{run_id}") as records:
        async for record in records:
            _show_record(console, json.loads(record))
    status = await _call(f"{url}/graph/status/{run_id}")
    final = cast("JsonObject", (await _call(f"{url}/graph/state/{run_id}"))["data"])
    _show_nodes(console, status)
    _show_result(console, final)
    return status["status"] == "completed"


async def _call(url: str, body: Mapping[str, object] | None = None) -> JsonObject:
    data = json.dumps(body).encode() if body is not None else None

    def request() -> JsonObject:
        # Our own server on loopback, on a port we bound.
        asked = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
                return cast("JsonObject", json.load(answer))
        except urllib.error.HTTPError as refused:
            with refused:
                problem = cast("JsonObject", json.load(refused))
            raise SandgraphError(f"{problem['detail']} ({problem['status']} {problem['code']})") from None

    return await asyncio.to_thread(request)


def _show_record(console: Console, record: JsonObject) -> None:
    """Print a record as it comes: what nodes say, and what becomes of them."""
    clock = str(record["ts"])[11:23]
    kind, node = record.get("kind"), record.get("node") or ""
    message = _harmless(str(record["message"]))
    if kind == "log":
        console.print(Text.assemble((f"{clock} ", "dim"), (f"{node:>28} ", "cyan"), f"│ {message}"), soft_wrap=True)
    elif record.get("type") in {"node", "run"}:
        style = _STYLES.get(str(record["status"]), "bold")
        console.print(
            Text.assemble((f"{clock} ", "dim"), (f"{node:>28} ", "cyan"), (f"● {message}", style)), soft_wrap=True
        )


def _show_nodes(console: Console, status: JsonObject) -> None:
    # Narrow enough for a terminal of 80 columns.
    table = Table(
        title="Node runs", title_justify="left", header_style="bold", box=SIMPLE_HEAD, show_edge=False, padding=0
    )
    for column, right in (("node", False), ("#", True), ("status", False), *((each, True) for each in _USAGE)):
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for node in cast("list[JsonObject]", status["node_runs"]):
        attempts = cast("list[JsonObject]", node["attempts"])
        usage = cast("dict[str, float | None]", (attempts[-1].get("usage") or {}) if attempts else {})
        cells = [
            f"{(usage.get('wall_s') or 0) * 1000:.0f} ms" if usage else "",
            f"{((usage.get('queue_s') or 0) + (usage.get('start_s') or 0)) * 1000:.0f} ms" if usage else "",
            f"{(usage.get('cpu_s') or 0) * 1000:.0f} ms" if usage else "",
            f"{(usage.get('peak_memory_bytes') or 0) / 2**20:.1f} MiB" if usage else "",
            f"{usage.get('output_bytes') or 0} B" if usage else "",
        ]
        state = str(node["status"])
        table.add_row(str(node["node"]), str(node["iteration"]), Text(state, _STYLES.get(state, "")), *cells)
    console.print()
    console.print(table)


def _show_result(console: Console, final: JsonObject) -> None:
    console.print("\n[bold]What changed in the code[/]")
    for line in _harmless(str(final.get("diff") or "(nothing)")).splitlines():
        # Whole lines, however wide the terminal is, so that the diff can be copied.
        console.print(Text(line, _DIFF_STYLES.get(line[:1], "")), soft_wrap=True)
    rounds = cast("list[dict[str, float]]", final.get("quality_history") or [])
    history = " → ".join(f"{each['score']:.1f}" for each in rounds)
    outcome = cast("JsonObject", final.get("outcome") or {})
    score = f"Quality score: {final.get('quality_score')} of 10   ({history})\n{outcome.get('message', '')}"
    console.print(Panel(_harmless(score), title="Result", title_align="left", expand=False))


def _harmless(text: str) -> str:
    """Return the text with control characters replaced: a log line must not drive the reader's terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
