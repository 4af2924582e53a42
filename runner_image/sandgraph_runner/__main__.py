"""Starts the supervisor: ``python3 -I -S -B <this file or directory>``; ``--version`` prints the protocol's version."""

from __future__ import annotations

import gc
import os
import sys

if __name__ == "__main__":
    # What a start makes stays: to look for garbage in it takes a tenth of its time. The child switches it on again.
    gc.disable()
    if not __package__:
        # Started by path: imports begin where the package is, and never inside of it.
        package = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs each start 4 ms
        root, version = os.path.dirname(package), f"python3.{sys.version_info.minor}"  # noqa: PTH120
        sys.path[:] = [root, *(path for path in sys.path if path != package)]
        # What an image of the operator's installs. Last, so that it hides neither the standard library nor the runner;
        # without `site`, so that none of its code runs before it is imported.
        folders = (
            f"{root}/packages",
            f"{sys.prefix}/lib/{version}/site-packages",
            f"/usr/local/lib/{version}/dist-packages",
            "/usr/lib/python3/dist-packages",
        )
        sys.path += [folder for folder in folders if os.path.isdir(folder) and folder not in sys.path]  # noqa: PTH112
    if sys.argv[1:] == ["--version"]:
        from sandgraph_runner.protocol import VERSION

        sys.stdout.write(f"{VERSION}\n")
        sys.exit(0)
    from sandgraph_runner.supervisor import main

    code = main()
    sys.stderr.flush()
    # Nothing is left to be tidied up: the interpreter's own end would take longer than most attempts.
    os._exit(code)
