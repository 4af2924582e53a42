"""What a scripted supervisor answers: outcomes with every field of the protocol."""

from __future__ import annotations

import json

import fake_engine
from fake_engine import Peer, Script


def an_outcome(**changed: object) -> bytes:
    """Return an outcome in which these fields are other than in one that changes nothing."""
    nothing = {
        "ops": [],
        "entered": True,
        "again": None,
        "after": [],
        "value": None,
        "reads": [],
        "reads_cut": False,
    }
    return json.dumps({**nothing, **changed}).encode()


NOTHING = an_outcome()


async def obliging(peer: Peer) -> None:
    """Say hello, and answer any job with an outcome that changes nothing."""
    await peer.hello()
    await peer.request()
    await peer.result(NOTHING)
    await peer.hang()


class FakeEngine(fake_engine.FakeEngine):
    """An engine whose supervisors oblige, unless told otherwise."""

    def __init__(self, script: Script = obliging) -> None:
        super().__init__(script)
