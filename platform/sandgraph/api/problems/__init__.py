"""Every code that clients may meet, each with a page of its own: what it means, and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from sandgraph.api.problems import (
    access,
    code,
    exchange,
    failures,
    fair_use,
    fields,
    graphs,
    platform,
    runs,
    states,
    webhooks,
)
from sandgraph.api.problems.page import Page

#: What the pages are about, in the order in which they are listed.
TOPICS: Mapping[str, tuple[Page, ...]] = {
    "Requests": exchange.PAGES,
    "Who may do what": access.PAGES,
    "Fields and parameters": fields.PAGES,
    "Fair use": fair_use.PAGES,
    "Submitted code": code.PAGES,
    "Graphs": graphs.PAGES,
    "States": states.PAGES,
    "Runs, and what is there": runs.PAGES,
    "Webhooks": webhooks.PAGES,
    "The platform": platform.PAGES,
    "Why runs fail": failures.PAGES,
}

#: By code.
PAGES: Mapping[str, Page] = {page.code: page for pages in TOPICS.values() for page in pages}
