"""What the checks of a platform's health found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        name: Of the check.
        is_ok: Whether all is well.
        detail: What there is, or what is wrong: for operators.
    """

    name: str
    is_ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What all checks found, and facts beside it."""

    checks: Sequence[Checked]
    facts: Mapping[str, object]

    @property
    def is_ok(self) -> bool:
        """Whether all is well."""
        return all(each.is_ok for each in self.checks)
