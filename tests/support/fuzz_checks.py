"""What schemathesis asks of answers beside its own checks; it loads this by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

from typing import Any

import schemathesis

#: Codes that speak of a document's form, which its schema describes: none of them may meet a document that has it.
OF_FORM = {"unknown_field", "missing_field", "wrong_type", "too_short", "too_long", "unknown_value", "invalid_json"}


@schemathesis.check
def refused_for_its_meaning_only(
    _context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """What has the described form may be refused for what it means (422), and not for its form.

    In the place of positive_data_acceptance, which takes no 422: no schema can say that code compiles, that a graph has
    a start, or that a cursor is one that was given out.
    """
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code not in {400, 422}:
        return
    codes = {each["code"] for each in response.json()["errors"]}
    assert not codes & OF_FORM, f"{case.method} {case.path}: {sorted(codes & OF_FORM)}: {response.text}"
