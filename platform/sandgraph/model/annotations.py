"""What people note about a run: tags to find it by, and metadata that means something to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Most tags of a run, and characters of each.
MAX_TAGS = 20
TAG_PATTERN = r"^[A-Za-z0-9_.:/-]{1,64}$"

#: Most entries of a run's metadata, and characters of each value. Keys are as tags.
MAX_METADATA, MAX_METADATA_VALUE = 32, 512


@dataclass(frozen=True, slots=True)
class Annotations:
    """Notes on a run, which it knows nothing of.

    Attributes:
        tags: Each once, in order.
        metadata: Texts by key.
        revision: Raised by one with each change.
    """

    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0

    def __bool__(self) -> bool:
        """Tell whether anything is noted."""
        return bool(self.tags or self.metadata)


#: Nothing is noted.
NO_ANNOTATIONS = Annotations()


@dataclass(frozen=True, slots=True)
class AnnotationChange:
    """How notes are changed.

    Attributes:
        tags: All that there are then; None leaves them as they are.
        metadata: Entries to be set, or where None removed; None leaves them as they are.
    """

    tags: tuple[str, ...] | None = None
    metadata: Mapping[str, str | None] | None = None

    def apply(self, before: Annotations) -> Annotations:
        """Return the notes after it, of the next revision; the same ones where nothing changes."""
        tags = before.tags if self.tags is None else tuple(sorted(self.tags))
        merged = {**before.metadata, **(self.metadata or {})}
        metadata = {key: value for key, value in sorted(merged.items()) if value is not None}
        if (tags, metadata) == (before.tags, dict(before.metadata)):
            return before
        return Annotations(tags, metadata, before.revision + 1)

    def of_new(self, before: Annotations) -> Annotations:
        """Return what is noted about a new run: what this says, and else what is noted about the one it is made of."""
        kept = Annotations() if self.metadata is not None else Annotations(metadata=before.metadata)
        after = AnnotationChange(before.tags if self.tags is None else self.tags, self.metadata).apply(kept)
        return Annotations(after.tags, after.metadata)


#: All stays as it is.
UNCHANGED = AnnotationChange()
