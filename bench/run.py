"""Run the benchmarks: ``python bench/run.py [names] [--quick] [--markdown]``, or ``make bench`` for all."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]
# Started as a script, Python looks in this folder alone.
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests" / "support")]

from bench.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
