"""Starts the supervisor: ``python3 -I -S -B <this directory>``; ``--version`` prints the protocol's version."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:
        # Started by path, this directory is where imports begin; its parent is where the package is.
        sys.path[0] = str(Path(__file__).resolve().parent.parent)
    if sys.argv[1:] == ["--version"]:
        from sandgraph_runner.protocol import VERSION

        sys.stdout.write(f"{VERSION}\n")
        sys.exit(0)
    from sandgraph_runner.supervisor import main

    sys.exit(main())
