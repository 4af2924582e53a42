"""Starts the supervisor: ``python3 -I -S -B <this file or directory>``; ``--version`` prints the protocol's version."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    if not __package__:
        # Started by path: imports begin where the package is, and never inside of it.
        package = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs each start 4 ms
        sys.path[:] = [os.path.dirname(package), *(path for path in sys.path if path != package)]  # noqa: PTH120
    if sys.argv[1:] == ["--version"]:
        from sandgraph_runner.protocol import VERSION

        sys.stdout.write(f"{VERSION}\n")
        sys.exit(0)
    from sandgraph_runner.supervisor import main

    code = main()
    sys.stderr.flush()
    # Nothing is left to be tidied up: the interpreter's own end would take longer than most attempts.
    os._exit(code)
