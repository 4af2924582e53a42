"""What is there for everybody, whoever they are. All that is not listed here needs a principal."""

from __future__ import annotations

from starlette.types import Scope

#: Paths that tell nothing of any tenant: whether the platform lives, where things are, how the API is described.
PUBLIC = frozenset({"/", "/livez", "/readyz", "/errors", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"})

#: What supervisors and proxies ask every few seconds; what it costs is bounded however many ask.
PROBES = frozenset({"/livez", "/readyz"})

#: All paths below these: the pages that say what an error's code means.
PUBLIC_BELOW = ("/errors/",)

#: Paths that decide by themselves what they tell to whom.
SELF_DECIDING = frozenset({"/metrics"})

#: Paths that need a principal, whatever it may do.
ANY_SCOPE = frozenset({"/whoami"})

#: What streams are below: paths that a ticket may be for. What follows is the id of a run.
STREAMS = ("/graph/ws/", "/graph/logs/")

_READING = frozenset({"GET", "HEAD"})


def is_public(scope: Scope) -> bool:
    """Tell whether a request asks for something public; a WebSocket never does."""
    if scope["type"] != "http" or scope["method"] not in _READING:
        return False
    return is_public_path(scope["path"])


def is_probe(scope: Scope) -> bool:
    """Tell whether a request asks how the platform does."""
    return scope["type"] == "http" and scope["path"] in PROBES


def is_public_path(path: str) -> bool:
    """Tell whether a path, or the template of one, is public."""
    return path in PUBLIC or path.startswith(PUBLIC_BELOW)
