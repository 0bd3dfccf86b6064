"""A small OpenID Connect provider on loopback, for tests: authorisation code with PKCE, RS256, a page to sign in, logout.

It checks what a real one checks (client, secret, redirect address, code, verifier), so that a login is a whole exchange.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey


@dataclass(kw_only=True)
class Provider:
    """Its address, what it knows of its one client, and the people who may sign in: claims by e-mail address."""

    issuer: str
    people: dict[str, dict[str, Any]]
    client_id: str = "ctcml"
    client_secret: str = field(default_factory=secrets.token_urlsafe)
    redirect_uri: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "test"}))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    signed_out: int = 0

    def secrets_toml(self) -> str:
        """What the dashboard is told of this provider."""
        told = {
            "redirect_uri": self.redirect_uri,
            "cookie_secret": secrets.token_urlsafe(32),
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "server_metadata_url": f"{self.issuer}/.well-known/openid-configuration",
        }
        return "[auth]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items())

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def login_page(self, asked: dict[str, str]) -> str:
        hidden = "".join(f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in asked.items())
        buttons = "".join(f'<button name="as" value="{escape(one)}">{escape(one)}</button>' for one in self.people)
        return f"<h1>Provider</h1><form action='/consent'>{hidden}{buttons}</form>"

    def consent(self, asked: dict[str, str]) -> str:
        """Where the browser goes back to, with a code."""
        assert asked["client_id"] == self.client_id
        assert asked["redirect_uri"] == self.redirect_uri
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"]
        code = secrets.token_urlsafe()
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any]:
        """The ID token for a code that was given out, once, to the client with its secret."""
        told = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        assert told == f"{self.client_id}:{self.client_secret}"
        asked = self.codes.pop(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": self.client_id, "sub": asked["as"], "iat": now, "exp": now + 300}
        claims |= {"nonce": asked["nonce"], **self.people[asked["as"]]}
        token = jwt.encode({"alg": "RS256", "kid": "test"}, claims, self.key)
        return {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "expires_in": 300, "id_token": token}


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/.well-known/openid-configuration":
            self._json(self.provider.configuration())
        elif address.path == "/jwks":
            self._json({"keys": [self.provider.key.as_dict(private=False)]})
        elif address.path == "/authorize":
            self._send(200, "text/html", self.provider.login_page(asked).encode())
        elif address.path == "/consent":
            self._redirect(self.provider.consent(asked))
        elif address.path == "/logout":
            self.provider.signed_out += 1
            self._redirect(asked["post_logout_redirect_uri"])
        else:
            self._send(404, "text/plain", b"no such page")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self._json(self.provider.token(form, self.headers["Authorization"]))

    def _json(self, content: Any) -> None:
        self._send(200, "application/json", json.dumps(content).encode())

    def _redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def identity_provider(people: dict[str, dict[str, Any]]) -> Iterator[Provider]:
    """A provider that runs while the block does."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    provider = Provider(issuer=f"http://127.0.0.1:{server.server_port}", people=people)
    handler.provider = provider  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
