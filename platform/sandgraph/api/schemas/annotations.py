"""What people note about a run, as they hand it in."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sandgraph.api.schemas.validation import Submitted, parse
from sandgraph.model.annotations import (
    MAX_METADATA,
    MAX_METADATA_VALUE,
    MAX_TAGS,
    NO_ANNOTATIONS,
    TAG_PATTERN,
    AnnotationChange,
    Annotations,
)
from sandgraph.settings import Settings


def _each_once(tags: list[str]) -> list[str]:
    if len({*tags}) < len(tags):
        double = next(tag for index, tag in enumerate(tags) if tag in tags[:index])
        raise PydanticCustomError("duplicate_name", "{tag} is there more than once.", {"tag": repr(double)})
    return tags


Tag = Annotated[str, Field(pattern=TAG_PATTERN, description="Letters, digits and `_.:/-`, to 64 characters.")]
Tags = Annotated[
    list[Tag],
    Field(max_length=MAX_TAGS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_each_once),
]
Value = Annotated[str, Field(max_length=MAX_METADATA_VALUE)]
#: For who reads schemas: other keys are none.
_NO_OTHERS = {"additionalProperties": False}

Metadata = Annotated[dict[Tag, Value], Field(max_length=MAX_METADATA, json_schema_extra=_NO_OTHERS)]
MetadataChange = Annotated[dict[Tag, Value | None], Field(max_length=MAX_METADATA, json_schema_extra=_NO_OTHERS)]

_TAGS = "To find it by: letters, digits and `_.:/-`, as `team:a`; each once."
_METADATA = "What it means to whoever made it: texts by key. Sandgraph keeps them, and does nothing with them."


class AnnotatedDocument(Submitted):
    """A body that makes a run, and may note something about it."""

    tags: Tags = Field(default_factory=list, description=_TAGS)
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)

    def annotations(self) -> Annotations:
        """Return what is noted about a run that is made of nothing else."""
        return self.change().of_new(NO_ANNOTATIONS)

    def change(self) -> AnnotationChange:
        """Return what is noted otherwise than about a run that it is made of."""
        said = self.model_fields_set
        return AnnotationChange(
            tuple(self.tags) if "tags" in said else None, self.metadata if "metadata" in said else None
        )


class AnnotationsDocument(Submitted):
    """What is to be noted otherwise about a run, as a JSON Merge Patch (RFC 7396) has it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"tags": ["team:a", "nightly"]}, {"metadata": {"ticket": "OPS-17", "reviewer": None}}]
        }
    )

    tags: Tags = Field(default_factory=list, description=f"{_TAGS} They replace those that there are.")
    metadata: MetadataChange = Field(
        default_factory=dict, description=f"{_METADATA} Null removes a key; those that are not named stay."
    )


def parse_annotations(document: object, _settings: Settings) -> AnnotationChange:
    """Read what is to be noted otherwise.

    Raises:
        InvalidInput: Everything that is wrong with it.
    """
    read = parse(AnnotationsDocument, document)
    tags = tuple(read.tags) if "tags" in read.model_fields_set else None
    return AnnotationChange(tags, read.metadata or None)
