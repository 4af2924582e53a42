"""The command line: which benchmarks to run, and how to show what they found."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from bench import (
    dispatch,
    engine,
    fairness,
    history,
    load,
    machine,
    memory,
    output,
    reuse,
    state,
    stream,
    tails,
    throughput,
)
from bench.report import Figure, closing, markdown, note, table

#: In the order of the page; what needs no quiet neighbour comes last.
BENCHMARKS: dict[str, Callable[[bool], list[Figure]]] = {
    "dispatch": dispatch.measure,
    "throughput": throughput.measure,
    "reuse": reuse.measure,
    "state": state.measure,
    "engine": engine.measure,
    "history": history.measure,
    "output": output.measure,
    "memory": memory.measure,
    "stream": stream.measure,
    "tails": tails.measure,
    "load": load.measure,
    "fairness": fairness.measure,
}


def main() -> int:
    """Run what was asked for; return 0 whatever the figures are: a slow machine is no failure."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"Benchmarks: {', '.join(BENCHMARKS)}.")
    parser.add_argument("names", nargs="*", metavar="name", help="run only these")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, to see that the benchmarks work")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/performance.md, too")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")

    header = machine.describe()
    note(header)
    began = time.monotonic()
    figures: list[Figure] = []
    for name in arguments.names or BENCHMARKS:
        started = time.monotonic()
        note(f"{name} …")
        found = BENCHMARKS[name](arguments.quick)
        figures += found
        table(f"{name}, {time.monotonic() - started:.0f} s", found)
    closing(figures, time.monotonic() - began)
    if arguments.markdown:
        markdown(header, figures)
    return 0
