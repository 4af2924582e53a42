"""An OIDC issuer on this machine, as honest or as wicked as a test needs it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "sandgraph"

#: Made once: RSA keys take their time.
RSA, OTHER_RSA, SMALL_RSA = (rsa.generate_private_key(65_537, bits) for bits in (2_048, 2_048, 1_024))
EC, OTHER_CURVE = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: PrivateKeyTypes, kid: str, **members: object) -> dict[str, object]:
    """Return the public part of a key as issuers publish it."""
    if isinstance(key, rsa.RSAPrivateKey):
        made = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        made = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        made = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**{name: value for name, value in made.items() if name != "key_ops"}, "kid": kid, "use": "sig", **members}


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def part(value: object) -> str:
    """Return a part of a token: an object, or text as it stands."""
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


class Issuer:
    """What it publishes, and who asked for it.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: list[dict[str, object]] = [jwk(RSA, "rsa"), jwk(EC, "ec"), jwk(ED, "ed")]
        self.configuration: dict[str, object] = {"issuer": url, "jwks_uri": f"{url}/keys"}
        self.asked: list[str] = []
        #: By path: a status, headers and a body instead of what it would answer.
        self.instead: dict[str, tuple[int, dict[str, str], bytes]] = {}

    def claims(self, **changed: object) -> dict[str, object]:
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300}
        claims = {**usual, "scope": "openid sandgraph:read sandgraph:submit", **changed}
        return {name: value for name, value in claims.items() if value is not ...}

    def token(
        self,
        *,
        key: Any = RSA,  # noqa: ANN401 - whatever may sign
        kid: Any = "rsa",  # noqa: ANN401
        algorithm: Any = "RS256",  # noqa: ANN401
        headers: Any = None,  # noqa: ANN401
        **changed: object,
    ) -> str:
        """Return a signed token; a claim that is an ellipsis is left out."""
        named = {} if kid is None else {"kid": kid}
        return jwt.encode(self.claims(**changed), key, algorithm=algorithm, headers={**named, **(headers or {})})

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        if path in self.instead:
            return self.instead[path]
        documents: dict[str, object] = {
            "/.well-known/openid-configuration": self.configuration,
            "/keys": {"keys": self.keys},
        }
        if path not in documents:
            return 404, {}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(documents[path]).encode()


@contextmanager
def issuing() -> Iterator[Issuer]:
    """Run an issuer for the length of the block."""
    found: list[Issuer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = found[0].answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.append(Issuer(f"http://127.0.0.1:{server.server_port}"))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield found[0]
        finally:
            server.shutdown()
            thread.join()
