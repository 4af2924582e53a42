"""`sandgraph keys`: made, listed and revoked on the data folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sandgraph.cli.main import main
from sandgraph.model.access import Scope
from sandgraph.model.api_key import read_key
from sandgraph.store.store import Store


def keys(data_dir: Path, *arguments: str) -> int:
    return main(["keys", *arguments, f"--data-dir={data_dir}"])


def test_a_key_is_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    assert keys(folder, "create", "--name=ci", "--tenant=lab", "--scope=read", "--scope=admin", "--expires-in=90d") == 0
    made = capsys.readouterr()
    # Nothing but the key, for who keeps it in a variable.
    text = made.out.strip()
    parts = read_key(text)
    assert parts is not None
    assert "lab" in made.err
    assert parts.secret not in made.err

    assert keys(folder, "list") == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in (parts.key_id, "lab", "ci", "admin read", "good until"))
    assert parts.secret not in listed
    assert keys(folder, "list", "--tenant=other") == 0
    assert "no keys" in capsys.readouterr().err

    assert keys(folder, "revoke", parts.key_id) == 0
    assert keys(folder, "list") == 0
    assert "revoked" in capsys.readouterr().out


def test_a_key_lets_do_what_is_done_every_day_unless_it_says_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys(tmp_path, "create", "--name=me") == 0
    parts = read_key(capsys.readouterr().out.strip())
    assert parts is not None

    async def kept() -> tuple[frozenset[Scope], str, object]:
        store = await Store.open(tmp_path)
        try:
            key = await store.keys.get(parts.key_id)
            assert key is not None
            return key.scopes, key.tenant, key.expires_at
        finally:
            await store.close()

    assert asyncio.run(kept()) == (frozenset({Scope.SUBMIT, Scope.READ, Scope.OPERATE}), "default", None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--name=x", "--expires-in=soon"], "12h or 90d"),
        (["create", "--name=x", "--expires-in=0d"], "12h or 90d"),
        (["create", "--name=x", "--tenant=A B"], "tenant"),
        (["create", "--name= "], "name"),
        (["revoke", "key_none"], "no key 'key_none'"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert keys(tmp_path / "data", *arguments) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_an_unknown_scope_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        keys(tmp_path, "create", "--name=x", "--scope=root")
    assert "submit" in capsys.readouterr().err
