"""Too much, too often, too slow."""

from __future__ import annotations

from sandgraph.api.problems.page import of

_too_many, _too_long = of(429), of(414)

_LATER = "Try again after `Retry-After` seconds, and ask less often: the headers `RateLimit` and `RateLimit-Policy` of "

PAGES = (
    _too_many(
        "rate_limited",
        "A key, a tenant or an address asked more often than it may.",
        _LATER + "every answer say how much is left.",
        "More than 6000 writes a minute; try again in 1 s.",
        "",
    ),
    _too_many(
        "too_many_streams",
        "As many WebSockets and event streams are open as may be: in all (`SANDGRAPH_MAX_STREAMS`), of a tenant's "
        "share, or of one key (`SANDGRAPH_KEY_MAX_STREAMS`).",
        "Close one; or read the records in pages.",
        "As many streams are open as may be; close one, or try again later.",
        "",
    ),
    _too_many(
        "tenant_queue_full",
        "As many runs of the tenant wait as its quota `max_queued_runs` allows.",
        "Try again after `Retry-After` seconds; with an `Idempotency-Key` no run is started twice.",
        "100 runs of this tenant are waiting already; try again later.",
    ),
    of(429)(
        "cpu_quota_exceeded",
        "The tenant has used its quota `cpu_s_per_day`: new runs are refused, those that wait begin tomorrow, and of "
        "those in progress the next attempt fails. The day begins at midnight in UTC.",
        "Try again after `Retry-After` seconds; resume what failed then. The operator can raise the quota.",
        "This tenant has used its 36000 CPU-seconds of today; the day begins in UTC.",
    ),
    _too_many(
        "storage_quota_exceeded",
        "As much is stored of the tenant's runs as its quota `stored_mb` allows. Runs in progress go on, and what they "
        "print is dropped.",
        "Wait until older output is removed, or ask who operates the platform.",
        "1024 MB are stored of this tenant's runs, which is as much as may be.",
    ),
    of(403)(
        "operator_required",
        "Tenants are managed by administrators of the tenant default alone.",
        "Come with a key of the tenant default that has the scope admin.",
        "Tenants are managed by administrators of the tenant default alone.",
        "",
    ),
    of(404)(
        "tenant_not_found",
        "No tenant can have that name.",
        "Names have small letters, digits, `-` and `_`.",
        "There is no tenant 'A B'.",
        "tenant",
    ),
    of(412)(
        "tenant_changed",
        "Somebody changed the tenant's quotas since the version that `If-Match` names.",
        "Read them again, and decide anew.",
        "The quotas of acme were changed meanwhile: they are at version 4 now.",
        "If-Match",
    ),
    of(503)(
        "too_many_connections",
        "As many connections are open as may be: in all (`SANDGRAPH_MAX_CONNECTIONS`), or of one address "
        "(`SANDGRAPH_ADDRESS_MAX_CONNECTIONS`).",
        "Use connections again, and close those that are not needed.",
        "As many connections are open as may be; try again later.",
    ),
    of(408)(
        "request_too_slow",
        "The line and the headers of a request took longer than `SANDGRAPH_HEADER_TIMEOUT_S` to arrive.",
        "Send them at once.",
        "The head of the request did not arrive in time.",
    ),
    _too_long(
        "uri_too_long",
        "The path or the query is longer than any that the API has.",
        "Put what is long into the body.",
        "A query may have 16384 bytes.",
        "",
    ),
    _too_long(
        "too_many_parameters",
        "The query has more parameters than any route knows.",
        "Leave out what the route does not know.",
        "A query may have 100 parameters.",
        "",
    ),
    of(431)(
        "too_many_headers",
        "The request has more headers than any client needs.",
        "Leave some out.",
        "A request may have 100 headers.",
        "",
    ),
    of(431)(
        "headers_too_large",
        "The headers of the request are larger than any client needs.",
        "Send fewer cookies, or none: the API reads none.",
        "The headers of a request may have 32768 bytes.",
        "",
    ),
)
