"""What goes wrong before a request is looked at: the route, the body, who asks."""

from __future__ import annotations

from sandgraph.api.problems.page import of

_malformed, _unsupported = of(400), of(415)

PAGES = (
    _malformed(
        "invalid_json",
        "The body is not JSON (RFC 8259); NaN and Infinity are none either.",
        "Mend the place that `line` and `column` name. Let a library write the JSON.",
        "The body is not JSON: Expecting ',' delimiter.",
        "",
    ),
    _malformed(
        "invalid_utf8",
        "The body is not UTF-8.",
        "Send JSON in UTF-8, whatever the encoding of what you made it from.",
        "The body is not UTF-8: byte 17 cannot be decoded.",
        "",
    ),
    _malformed(
        "empty_body",
        "The route takes a JSON document, and the body is empty.",
        "Send a body; `{}` where nothing is to be said.",
        "The body is empty; send a JSON document.",
        "",
    ),
    _malformed(
        "duplicate_key",
        "An object of the body names a key twice, so that nobody can say which of the values is meant.",
        "Leave one of them out.",
        "The key 'name' is there more than once.",
        "name",
    ),
    of(400, 422)(
        "invalid_text",
        "A text has half of a surrogate pair, which no UTF-8 can say.",
        "Send text that is valid Unicode; bytes as Base64.",
        "It has half of a surrogate pair, which is no text.",
        "code",
    ),
    _malformed(
        "nesting_too_deep",
        "The body is nested deeper than any state may be, and was not parsed.",
        "Send a flatter document.",
        "The body is nested more than 520 deep.",
        "",
    ),
    _malformed(
        "bad_request",
        "The request is no HTTP that this server can read.",
        "Let a library make the request.",
        "There was an error parsing the request.",
    ),
    of(403)(
        "metrics_private",
        "Metrics are for programs on the same machine and for keys of the tenant `default` with `read` or `admin`.",
        "Give a key, ask from the machine itself, or set `SANDGRAPH_METRICS_PUBLIC` where the network is yours.",
        "Metrics are for programs on the same machine and for keys of the tenant default with the scope read or admin.",
    ),
    of(403)(
        "cross_origin",
        "A browser sent this for a web page of another origin.",
        "Call the API from a server, from the command line, or from a page of the platform's own origin.",
        "Web pages of other origins may not call this API.",
        "",
    ),
    of(404)(
        "route_not_found",
        "There is no such path.",
        "See `/docs` or `/openapi.json` for those that there are; paths end without a slash.",
        "Not Found",
    ),
    of(405)(
        "method_not_allowed",
        "The path is there, but not with this method.",
        "Use one that the header `Allow` names.",
        "Method Not Allowed",
    ),
    of(406)(
        "not_acceptable",
        "The answer is to be in a form that this route does not have.",
        "Leave `Accept` out, or accept application/json.",
        "Not Acceptable",
    ),
    of(408)(
        "body_too_slow",
        "The body took longer than `SANDGRAPH_BODY_TIMEOUT_S`, or came slower than `SANDGRAPH_BODY_MIN_KB_S`.",
        "Send it again over a better connection, or make it smaller.",
        "The body took too long to arrive.",
        "",
    ),
    of(413)(
        "body_too_large",
        "The body is over `SANDGRAPH_MAX_BODY_KB`.",
        "Send less: a state is no place for files. Who operates the platform can raise the bound.",
        "A request's body may have 2097152 bytes.",
        "",
    ),
    _unsupported(
        "unsupported_media_type",
        "The body is a form, and not JSON.",
        "Send JSON, as `application/json`.",
        "Send JSON: application/json.",
        "",
    ),
    _unsupported(
        "unsupported_encoding",
        "The body is compressed.",
        "Send it as it is, without `Content-Encoding`.",
        "Send the body uncompressed.",
        "",
    ),
)
