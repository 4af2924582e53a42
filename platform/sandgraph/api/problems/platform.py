"""What is wrong with the platform, or too much for it."""

from __future__ import annotations

from sandgraph.api.problems.page import of

_down = of(503)

PAGES = (
    of(429)(
        "queue_full",
        "As many runs wait as `SANDGRAPH_MAX_QUEUED_RUNS` allows.",
        "Try again after `Retry-After` seconds; with an `Idempotency-Key` no run is started twice.",
        "1000 runs are waiting already; try again later.",
    ),
    of(500)(
        "internal_error",
        "Something went wrong inside the platform. It is a mistake of ours.",
        "Report it, with the answer's `X-Request-Id`: the platform's log has what happened under it.",
        "Something went wrong inside the platform; its log says what.",
    ),
    of(500)(
        "configuration_error",
        "The deployment's settings cannot work.",
        "Who operates the platform has to change them; `sandgraph serve` says which.",
        "port: Input should be less than or equal to 65535.",
    ),
    _down(
        "not_ready",
        "The platform cannot take runs and do them at present: `errors` names the checks that failed.",
        "Send work elsewhere, or try again after `Retry-After` seconds. `sandgraph doctor` tells operators what to do.",
        "The platform cannot take runs and do them at present: database.",
    ),
    _down(
        "not_alive",
        "The process does not work any more.",
        "Have it started again; what was accepted goes on then.",
        "The process does not work any more: heart.",
    ),
    _down(
        "check_failed",
        "A check of the platform's health came out badly.",
        "See `detail`; it is for operators alone.",
        "This check failed.",
        "database",
    ),
    _down(
        "unavailable",
        "A part that is needed does not answer.",
        "Try again after `Retry-After` seconds.",
        "A part that is needed does not answer.",
    ),
    _down(
        "engine_unavailable",
        "The Docker engine does not answer, or has no sandbox to give.",
        "Try again after `Retry-After` seconds. Who operates the platform finds the reason at `/readyz`.",
        "No Docker engine answers.",
    ),
    _down(
        "sandbox_lost",
        "A sandbox went away without a word: the engine restarted, or somebody removed its container.",
        "Try again.",
        "The sandbox for the check was lost.",
    ),
    _down(
        "store_unavailable",
        "The database does not answer: it is locked, its disk is full, or it is being closed.",
        "Try again after `Retry-After` seconds; with an `Idempotency-Key` nothing is done twice.",
        "The database does not answer: database is locked.",
    ),
    _down(
        "run_waits_for_turn",
        "The run goes on when it is its turn; too many others are in progress.",
        "Try again later.",
        "The run run_01M83P6WKPG4A75175D707R5SQ goes on when it is its turn; too many others are in progress.",
    ),
    _down(
        "shutting_down",
        "The platform is being stopped and takes nothing more.",
        "Try again after `Retry-After` seconds: runs go on after its next start.",
        "The platform is shutting down and takes no more runs.",
    ),
)
