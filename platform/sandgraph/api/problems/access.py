"""Who asks, and what they may do."""

from __future__ import annotations

from sandgraph.api.problems.page import of

_unknown, _forbidden = of(401), of(403)

PAGES = (
    _unknown(
        "authentication_required",
        "The deployment lets in who has an API key or a token, and none came.",
        "Send the header `Authorization: Bearer …`. Whoever administers your tenant makes keys: `POST /keys`.",
        "Send an API key or a token: the header Authorization with Bearer and the key.",
        "",
    ),
    _unknown(
        "credentials_malformed",
        "The header `Authorization` is not what it should be, or several keys, tokens or tickets came.",
        "Send one header: `Bearer`, a space, and the key or the token; or one ticket.",
        "The header Authorization must be Bearer, a space, and the key or the token.",
        "",
    ),
    _unknown(
        "credentials_in_url",
        "A key or a token came in the address, which ends up in logs and histories of browsers and proxies.",
        "Revoke it, and send another in the header `Authorization`. For a stream in a browser ask `POST /tickets`.",
        "A key or a token in an address ends up in logs and histories: this one should be revoked. Send it in the "
        "header Authorization, or ask POST /tickets for a ticket.",
        "api_key",
    ),
    _unknown(
        "key_invalid",
        "What came is no API key of this deployment: it was not copied as a whole, or is of another deployment.",
        "Compare its beginning with those that `GET /keys` lists.",
        "This is no API key of this deployment.",
        "",
    ),
    _unknown(
        "key_expired",
        "The API key was made for a time, and that is over.",
        "Ask whoever administers your tenant for another.",
        "This API key has expired.",
        "",
    ),
    _unknown(
        "key_revoked",
        "Somebody revoked the API key.",
        "Ask whoever administers your tenant for another.",
        "This API key was revoked.",
        "",
    ),
    _unknown(
        "token_invalid",
        "The token is not signed by the issuer that the deployment trusts, is for somebody else, or is not valid yet.",
        "Read what it says of the token. Get one for the audience of this deployment, with the scopes that it maps.",
        "This token is not accepted. It is for another audience.",
        "",
    ),
    _unknown(
        "token_expired",
        "The token's time is over.",
        "Get another from the issuer.",
        "This token has expired.",
        "",
    ),
    _unknown(
        "ticket_invalid",
        "The ticket was used already, is too old, or is for another path.",
        "Ask `POST /tickets` for another, right before the stream is opened.",
        "This ticket is not good here: each is for one path, once, within 30 seconds.",
        "",
    ),
    _forbidden(
        "scope_missing",
        "The key or token is good, and does not let do this; or a key was to be made that lets do more than its maker.",
        "Ask whoever administers your tenant for a key with the scope that is named.",
        "This needs the scope submit; what you came with has read.",
        "",
    ),
    _forbidden(
        "tenant_not_allowed",
        "Keys of another tenant were asked for, and only administrators of the tenant `default` manage those.",
        "Leave `tenant` out.",
        "Keys of other tenants are managed by administrators of the tenant default alone.",
        "tenant",
    ),
    _forbidden(
        "host_not_allowed",
        "The deployment runs open on a loopback address, and serves its own machine under its own names alone: a web "
        "page could make up another that leads here.",
        "Call it as `127.0.0.1` or `localhost`, or make a key.",
        "Without keys this deployment serves its own machine alone, as 127.0.0.1 or localhost.",
        "",
    ),
    of(429)(
        "too_many_tickets",
        "So many tickets are out that there are no more for now.",
        "Use those that you have, or wait for 30 seconds.",
        "Too many tickets are out; use those, or wait until they end.",
        "",
    ),
    of(503)(
        "issuer_unavailable",
        "The token is signed with a key that is not known here, and the issuer does not answer.",
        "Try again after `Retry-After` seconds. Who operates the platform finds the reason in its log.",
        "The issuer of this token does not answer.",
    ),
)
