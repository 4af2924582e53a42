"""Who is let into a platform as users start it: everybody on the machine, until there is a key."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from served import serve
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.docker

#: Seconds within which a platform knows what the command line did, with some for a busy machine.
_SEEN_S = 10


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandgraph", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_it_runs_open_and_says_so_until_the_command_line_makes_a_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serve(data, "test-authentication", pool_min=0, pool_max=1, worker_slots=1) as served:
        assert "open to everybody" in served.said
        served.register("def work(state):\n    state['done'] = True\n", "work")
        graph_id = served.post("/graph/create", served.graph_of("work"))["graph_id"]
        made = command("keys", "create", "--name=test", "--scope=read", "--scope=submit", f"--data-dir={data}")
        assert made.returncode == 0, made.stderr
        key = {"Authorization": f"Bearer {made.stdout.strip()}"}
        deadline = time.monotonic() + _SEEN_S
        while served.client.get("/graph/runs").status_code != 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)

        served.client.headers.update(key)
        run_id = served.post("/graph/run", {"graph_id": graph_id})["run_id"]
        url = f"{served.url.replace('http', 'ws')}/graph/ws/{run_id}"
        with pytest.raises(InvalidStatus) as refused, connect(url):
            pass
        assert refused.value.response.status_code == 401
        with connect(url, additional_headers=key) as records:
            assert [json.loads(record)["final"] for record in records][-1] is True
        ticket = served.post("/tickets", {"path": f"/graph/ws/{run_id}"})["ticket"]
        with connect(f"{url}?ticket={ticket}") as records:
            assert json.loads(records.recv())["seq"] == 1

        key_id = served.get("/whoami")["key_id"]
        assert command("keys", "revoke", key_id, f"--data-dir={data}").returncode == 0
        deadline = time.monotonic() + _SEEN_S
        while served.client.get("/graph/runs").status_code != 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert served.client.get("/graph/runs").json()["code"] == "key_revoked"


def test_on_another_address_it_does_not_start_open(tmp_path: Path) -> None:
    refused = command("serve", "--host=0.0.0.0", "--port=0", f"--data-dir={tmp_path / 'data'}")
    assert refused.returncode == 1
    assert "host = 0.0.0.0: There are no keys yet" in refused.stderr
    assert "sandgraph keys create" in refused.stderr
    assert not (tmp_path / "data").exists()
