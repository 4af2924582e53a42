"""When a failed attempt is tried again."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandgraph.model.run import AttemptStatus

#: The failures a node may ask to have retried.
RETRYABLE = frozenset(
    {
        AttemptStatus.ERROR,
        AttemptStatus.TIMEOUT,
        AttemptStatus.OOM,
        AttemptStatus.KILLED,
        AttemptStatus.NO_RESULT,
        AttemptStatus.RESULT_INVALID,
        AttemptStatus.OUTPUT_LIMIT,
        AttemptStatus.LOST,
    }
)


#: Lost attempts that a node run may have: with the last of them it fails.
MAX_LOST = 5


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off; attempts that were lost do not count, see `LOST`.

    Attributes:
        max_attempts: Attempts in all, the first among them.
        initial_s: Seconds before the second attempt.
        factor: By which each further wait grows.
        max_s: Longest wait.
        jitter: Whether a wait is a random part of itself ("full jitter", Brooker, AWS Architecture Blog, 2015).
        on: The statuses that are retried; ``lost`` is, named or not.
    """

    max_attempts: int = 1
    initial_s: float = 0.5
    factor: float = 2.0
    max_s: float = 30.0
    jitter: bool = True
    on: frozenset[AttemptStatus] = field(
        default=frozenset({AttemptStatus.ERROR, AttemptStatus.TIMEOUT, AttemptStatus.OOM, AttemptStatus.LOST})
    )

    def delay_after(self, attempts: int, status: AttemptStatus) -> float | None:
        """Return the seconds to wait before the next attempt, jitter left to the caller; None if there is none.

        Args:
            attempts: That count, so far.
            status: Of the last of them.
        """
        if attempts >= self.max_attempts or status not in self.on:
            return None
        delay_s = min(self.max_s, self.initial_s)
        for _ in range(attempts - 1):
            # Cut at each step: a power of the factor may be more than a float can hold.
            delay_s = min(self.max_s, delay_s * self.factor)
        return delay_s


#: How lost attempts are tried again, whatever a node asks for: what was lost is never the submission's fault, and had
#: no effect outside its sandbox.
LOST = Retry(max_attempts=MAX_LOST, initial_s=0.5, factor=2.0, max_s=10.0, on=frozenset({AttemptStatus.LOST}))
