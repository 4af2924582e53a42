"""``make chaos``: rounds of the crash matrix with fresh seeds, for as long as one likes."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from chaos_campaign import IN_PROCESS, Chaos, Round
from chaos_containers import DOCKER, containers_gone
from chaos_driver import driver


def main() -> int:
    """Run rounds until the time is up or one fails; with no minutes, one."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10.0, help="for how long rounds are begun; 0 is one round")
    options.add_argument("--seed", type=int, default=None, help="of the first round; those that follow count up")
    options.add_argument("--docker", action="store_true", help="with containers")
    chosen = options.parse_args()
    seed = int(time.time()) % 1_000_000 * 10 if chosen.seed is None else chosen.seed
    plan = DOCKER if chosen.docker else IN_PROCESS
    until = time.monotonic() + chosen.minutes * 60
    programs = lives = 0
    while True:
        folder = Path(tempfile.mkdtemp(prefix="sandgraph-chaos-"))
        deployment = f"chaos-{folder.name[-8:].lower().strip('_')}"
        print(f"seed {seed}: ", end="", flush=True)
        try:
            with driver() as lifes, containers_gone(deployment if chosen.docker else None):
                report = Round(seed, plan, folder, lifes, deployment).run()
        except Chaos as found:
            again = f"make chaos SEED={seed} MINUTES=0{' DOCKER=1' if chosen.docker else ''}"
            print(f"failed\n{found}\nIts data is in {folder}. Again: {again}")
            return 1
        shutil.rmtree(folder)
        programs, lives = programs + report.programs, lives + report.lives
        print(f"{report} (in all {programs} programs, {lives} lives)", flush=True)
        if time.monotonic() >= until:
            return 0
        seed += 1


if __name__ == "__main__":
    sys.exit(main())
