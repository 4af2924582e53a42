"""The pages as HTML: whole in themselves, with no script and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape

from sandgraph.api.problems.page import Page

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#1a1a1a;background:#fff}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f3f3;border-radius:4px}"
    "code{padding:0 .2em}pre{padding:1rem;overflow:auto}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}code,pre{background:#262626}a{color:#8ab4f8}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: Nothing may be loaded, run, framed or sent; the one style is known by its hash.
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def page_html(page: Page) -> str:
    """Return one page."""
    statuses = ", ".join(map(str, page.statuses)) or "none: it is the error of a run"
    example = json.dumps(page.example(), indent=2, ensure_ascii=False)
    return _document(
        page.title,
        f"<p><code>{escape(page.code)}</code> · status {escape(statuses)}</p>"
        f"<p>{_text(page.means)}</p><h2>What to do</h2><p>{_text(page.todo)}</p>"
        f'<h2>Example</h2><pre>{escape(example)}</pre><p><a href="/errors">All codes</a></p>',
    )


def list_html(topics: Mapping[str, Iterable[Page]]) -> str:
    """Return the page that leads to all others."""
    parts = []
    for topic, pages in topics.items():
        items = "".join(
            f'<li><a href="{escape(page.uri)}"><code>{escape(page.code)}</code></a> {_text(page.means)}</li>'
            for page in pages
        )
        parts.append(f"<h2>{escape(topic)}</h2><ul>{items}</ul>")
    return _document("Errors", "".join(parts))


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Sandgraph</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )


def _text(text: str) -> str:
    """Return a text whose parts between backquotes are code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
