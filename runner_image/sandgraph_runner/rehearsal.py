"""Both processes go through a small order of our own while they wait for one.

After a fork both share all memory, and each page is copied when one of them first writes to it, which in Python is
nearly always: every look at an object counts a reference. Done here, where nobody waits, it saves an attempt a third.
Where one order follows on another, somebody does wait: then it would be but more work. Before the fork there is what
children share: what Python makes when it first needs it, above all its compiler's types, and what submissions import
most. Where somebody waits already for a sandbox that has just started, and for the only attempt that it is made for,
that child makes what it needs itself.
"""

from __future__ import annotations

from sandgraph_runner.cgroup import Meter
from sandgraph_runner.child import run_job
from sandgraph_runner.lean import Callable
from sandgraph_runner.protocol import Decoder, Job, Kind, Report, Source, encode
from sandgraph_runner.verdict import OUTCOME, Message, as_message, judge

#: Seconds for which nothing is done but to wait for an order: the next one of a run is there sooner.
LULL_S = 0.02

#: Modules that are there when a child begins: those that submissions import most, and what these import.
PRELOADED = ("enum", "functools", "collections.abc", "contextlib", "typing", "re", "json", "copy", "signal", "ctypes")

_JOB = Job(function=Source("f", "def f(state):\n    return {'a': state.get('a')}\n"))
_STATE = b'{"a":1}'
_OUTCOME = b'{"ops":[],"entered":true,"again":null,"after":[],"value":null,"reads":["a"],"reads_cut":false}'
_FRAME = encode(Kind.EXECUTE, _JOB.to_meta(), _STATE)


def preload(is_hurried: Callable[[], bool]) -> None:
    """Import what submissions import most, as long as nobody is in a hurry."""
    for name in PRELOADED:
        if is_hurried():
            return
        __import__(name)


def rehearse_child() -> None:
    """Run the order."""
    run_job(_JOB, _STATE)


def rehearse_supervisor(meter: Meter) -> None:
    """Read the order, judge its outcome, and make the report."""
    frame = next(Decoder(len(_FRAME)).feed(_FRAME))
    order = Job.from_meta(frame.read_meta())
    message = Message(order)
    message.feed(as_message(OUTCOME, _OUTCOME))
    verdict = judge(message, order, frame.body)
    encode(Kind.RESULT, Report(verdict.reason, used=meter.read()).to_meta(), verdict.body)
