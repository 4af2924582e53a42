"""How much of a deployment one tenant may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quotas:
    """A tenant's quotas; 0 is any amount.

    Attributes:
        max_active_runs: Runs in progress at the same time; further ones wait.
        max_queued_runs: Runs that wait for their turn; further ones are refused.
        cpu_s_per_day: CPU-seconds of its attempts, from midnight to midnight in UTC.
        stored_mb: What is stored of its runs: states, diffs, lines and events.
        requests_per_minute: Of all its keys and users together.
    """

    max_active_runs: int = 0
    max_queued_runs: int = 0
    cpu_s_per_day: float = 0
    stored_mb: int = 0
    requests_per_minute: int = 0

    def changed(self, own: Mapping[str, float]) -> Quotas:
        """Return them with those that a tenant has of its own."""
        return Quotas(
            max_active_runs=int(own.get("max_active_runs", self.max_active_runs)),
            max_queued_runs=int(own.get("max_queued_runs", self.max_queued_runs)),
            cpu_s_per_day=own.get("cpu_s_per_day", self.cpu_s_per_day),
            stored_mb=int(own.get("stored_mb", self.stored_mb)),
            requests_per_minute=int(own.get("requests_per_minute", self.requests_per_minute)),
        )


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """What a tenant uses now, by quota."""

    active_runs: int
    queued_runs: int
    cpu_s_today: float
    stored_bytes: int
