"""The process that gives platforms their lives: it imports everything once, and forks for each line that it reads.

A line is a `chaos_life.Life`. It answers with lines: ``{"pid": …}`` at once, ``{"stopped": true}`` whenever the life
was stopped, and at last ``{"ended": …}``: the exit code, or the signal's number, negative.
"""

from __future__ import annotations

import json
import os
import sys

from chaos_life import CRASHED, Life, live


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = CRASHED
            try:
                code = live(Life.from_json(json.loads(line)))
            finally:
                # Threads of submitted code may go on.
                os._exit(code)
        _say(pid=pid)
        while True:
            _, status = os.waitpid(pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            _say(stopped=True)
        _say(ended=os.waitstatus_to_exitcode(status))


def _say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
