"""What there is to say of one code, so that whoever meets it can look it up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """A code that clients may meet, and what to do about it.

    Attributes:
        code: Stable, for programs.
        statuses: Of the answers that have it; none where it is only ever the error of a run.
        means: What happened.
        todo: What whoever meets it should do.
        detail: An example of what it says.
        path: The field that the example is about; None where it is about none.
    """

    code: str
    statuses: tuple[int, ...]
    means: str
    todo: str
    detail: str
    path: str | None = None

    @property
    def title(self) -> str:
        """The code as words."""
        return title_of(self.code)

    @property
    def uri(self) -> str:
        """Where the page is, and what identifies the kind of problem."""
        return uri_of(self.code)

    def example(self) -> Mapping[str, object]:
        """Return a document as clients get it; of what only runs come to, the run's error."""
        if not self.statuses:
            return {"code": self.code, "message": self.detail}
        where = f"{self.path}: " if self.path else ""
        listed = [] if self.path is None else [{"path": self.path, "code": self.code, "message": self.detail}]
        return {
            "type": self.uri,
            "title": self.title,
            "status": self.statuses[0],
            "code": self.code,
            "detail": f"{where}{self.detail}",
            "errors": listed,
        }


def title_of(code: str) -> str:
    """Return a code as words."""
    return code.replace("_", " ").capitalize()


def uri_of(code: str) -> str:
    """Return what identifies the kind of problem."""
    return f"/errors/{code}"


def of(*statuses: int) -> Callable[..., Page]:
    """Return a maker of pages whose answers have these statuses."""

    def make(code: str, means: str, todo: str, detail: str, path: str | None = None) -> Page:
        return Page(code, statuses, means, todo, detail, path)

    return make
