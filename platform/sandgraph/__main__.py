"""``python -m sandgraph`` is the command ``sandgraph``."""

from sandgraph.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
