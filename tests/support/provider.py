"""A provider of OpenID Connect: a real process on loopback, which logs everybody in without asking, and can be made to do wrong.

It is as strict as providers should be: a code is used once, by the client that it is for, with the verifier of its challenge.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx

CLIENT_ID = "slackwater"
CLIENT_SECRET = "the-secret-of-the-tests"

ALICE = {"sub": "alice-at-the-provider", "email": "alice@example.com", "email_verified": True}


# The process


class ProviderApp:
    """What it does, as an ASGI application."""

    def __init__(self, issuer: str) -> None:
        from joserfc.jwk import RSAKey

        self.issuer = issuer
        self.user: dict[str, Any] = dict(ALICE)
        """Whom it logs in."""
        self.claims: dict[str, Any] = {}
        """Put over those of the ID token; null takes one away."""
        self.faults: set[str] = set()
        self.metadata: dict[str, Any] = {}
        """Put over its document; null takes something away."""
        self.held: set[str] = set()
        """Paths that it does not answer until it is told to."""
        self.release = asyncio.Event()
        self.seen: Counter[str] = Counter()
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.keys = [RSAKey.generate_key(2048, {"kid": "key-1", "use": "sig", "alg": "RS256"})]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        path = scope["path"]
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if path == "/control":
            await self._answer(send, 200, self._control(json.loads(body or b"{}")))
            return
        self.seen[path] += 1
        if path in self.held:
            await self.release.wait()
        if f"huge {path}" in self.faults:
            await self._flood(send)
            return
        if f"packed {path}" in self.faults:
            await self._answer(send, 200, {}, {"content-encoding": "gzip"})
            return
        if f"redirected {path}" in self.faults:
            await self._answer(send, 302, {}, {"location": f"{self.issuer}/elsewhere"})
            return
        if f"failing {path}" in self.faults:
            await self._answer(send, 500, {"error": "server_error"})
            return
        if f"nested {path}" in self.faults:
            await self._answer(send, 200, b"[" * 100_000)
            return
        match path:
            case "/.well-known/openid-configuration":
                await self._answer(send, 200, self._document())
            case "/jwks":
                await self._answer(send, 200, {"keys": [key.as_dict(private=False) for key in self.keys]})
            case "/authorize":
                await self._authorize(send, query)
            case "/token":
                form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
                await self._answer(send, *self._token(form, headers))
            case "/userinfo":
                user = self.tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
                await self._answer(send, 401 if user is None else 200, user or {})
            case _:
                await self._answer(send, 404, {})

    def _control(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Change what it does; what it was asked so far."""
        from joserfc.jwk import RSAKey

        if wanted.get("afresh"):
            self.user, self.claims, self.metadata = dict(ALICE), {}, {}
            self.faults, self.held = set(), set()
            self.release.set()
            self.release = asyncio.Event()
            self.seen.clear()
        for name in ("user", "claims", "metadata"):
            if name in wanted:
                setattr(self, name, wanted[name])
        for name in ("faults", "held"):
            if name in wanted:
                setattr(self, name, set(wanted[name]))
        if wanted.get("rotate"):
            number = len(self.seen) + secrets.randbelow(10**9)
            self.keys = [RSAKey.generate_key(2048, {"kid": f"key-{number}", "use": "sig", "alg": "RS256"})]
        if "held" in wanted:
            self.release.set()
            self.release = asyncio.Event()
        return {"seen": dict(self.seen), "codes": len(self.codes)}

    def _document(self) -> dict[str, Any]:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            **self.metadata,
        }
        return {name: value for name, value in document.items() if value is not None}

    async def _authorize(self, send: Any, query: Mapping[str, str]) -> None:
        wrong = (
            query.get("client_id") != CLIENT_ID
            or query.get("response_type") != "code"
            or "openid" not in query.get("scope", "").split()
            or query.get("code_challenge_method") != "S256"
            or len(query.get("code_challenge", "")) != 43
            or not query.get("nonce")
            or not query.get("state")
        )
        if wrong:
            await self._answer(send, 400, {"error": "invalid_request", "query": dict(query)})
            return
        answer = {"state": query["state"]}
        if "another state" in self.faults:
            answer["state"] = secrets.token_urlsafe(32)
        if "denied" in self.faults:
            answer["error"] = "access_denied"
        else:
            answer["code"] = secrets.token_urlsafe(24)
            self.codes[answer["code"]] = {
                "redirect_uri": query["redirect_uri"],
                "challenge": query["code_challenge"],
                "nonce": query["nonce"],
            }
        if self.metadata.get("authorization_response_iss_parameter_supported"):
            answer["iss"] = self.issuer
        if "another issuer" in self.faults:
            answer["iss"] = "https://evil.example"
        await self._answer(send, 302, {}, {"location": f"{query['redirect_uri']}?{urlencode(answer)}"})

    def _token(self, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        if not self._is_client(form, headers):
            return 401, {"error": "invalid_client"}
        code = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            code is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != code["redirect_uri"]
            or _encoded(digest) != code["challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        access = secrets.token_urlsafe(24)
        self.tokens[access] = dict(self.user)
        if "another user in userinfo" in self.faults:
            self.tokens[access]["sub"] = "somebody else"
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": 300}
        if "no id token" not in self.faults:
            answer["id_token"] = self._id_token(code["nonce"], access)
        return 200, answer

    def _is_client(self, form: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        given = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        in_head = headers.get("authorization") == f"Basic {given}"
        in_body = form.get("client_id") == CLIENT_ID and form.get("client_secret") == CLIENT_SECRET
        return in_body if self.metadata.get("token_endpoint_auth_methods_supported") else in_head

    def _id_token(self, nonce: str, access: str) -> str:
        from joserfc import jwt
        from joserfc.jwk import OctKey, RSAKey
        from joserfc.jws import JWSRegistry

        half = hashlib.sha256(access.encode()).digest()[:16]
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "exp": now + 300,
            "iat": now,
            "nonce": nonce,
            "at_hash": _encoded(half),
            **({"sub": self.user["sub"]} if "thin token" in self.faults else self.user),
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        key: Any = self.keys[0]
        header: dict[str, Any] = {"alg": "RS256", "kid": key.kid}
        if "alg none" in self.faults:
            parts = ({**header, "alg": "none"}, claims)
            return ".".join(_encoded(json.dumps(part).encode()) for part in parts) + "."
        if "public key as secret" in self.faults:
            head = ".".join(
                _encoded(json.dumps(part).encode()) for part in ({**header, "alg": "HS256"}, claims)
            )
            # By hand: a library that is careful does not do that.
            digest = hmac.new(key.as_pem(private=False), head.encode(), hashlib.sha256).digest()
            return f"{head}.{_encoded(digest)}"
        if "client secret" in self.faults:
            header["alg"], key = "HS256", OctKey.import_key(CLIENT_SECRET)
        if "foreign key" in self.faults:
            key = RSAKey.generate_key(2048)
        if "unlisted key" in self.faults:
            header["kid"], key = "nobody's", RSAKey.generate_key(2048)
        algorithms = JWSRegistry(algorithms=["RS256", "HS256"])
        return jwt.encode(header, claims, key, registry=algorithms)

    async def _answer(
        self, send: Any, status: int, content: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        raw = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        lines = [(name.encode(), value.encode()) for name, value in raw.items()]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    async def _flood(self, send: Any) -> None:
        """An answer of 6.5 MB, whose length nobody says."""
        lines = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b" " * 65_536, "more_body": True})
        await send({"type": "http.response.body", "body": b"{}"})


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def main() -> None:
    """Serve until a signal; the first line of stdout is the issuer."""
    import socket

    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def serve() -> None:
        config = uvicorn.Config(ProviderApp(issuer), log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        print(issuer, flush=True)
        await server.serve(sockets=[listener])

    asyncio.run(serve())


# Those who use it


@dataclass(eq=False)
class TestProvider:
    """A running one."""

    __test__ = False

    issuer: str
    http: httpx.AsyncClient = field(repr=False)

    async def control(self, **wanted: Any) -> dict[str, Any]:
        """Change what it does: `user`, `claims`, `metadata`, `faults`, `held`, `rotate`. Returns what it has seen."""
        answer = await self.http.post("/control", json=wanted)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def seen(self, path: str) -> int:
        """How often it was asked for a path."""
        found: int = (await self.control())["seen"].get(path, 0)
        return found

    async def until_seen(self, path: str, count: int = 1) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(30):
            while await self.seen(path) < count:
                await asyncio.sleep(0.02)

    async def consent(self, url: str) -> str:
        """The user logs in there: where their browser is sent to."""
        assert url.startswith(f"{self.issuer}/authorize?"), url
        answer = await self.http.get(url)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    @property
    def settings(self) -> dict[str, Any]:
        """Of a server whose users it logs in."""
        return {"oidc_issuer": self.issuer, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET}


@contextmanager
def provider_process() -> Iterator[str]:
    """A process meanwhile: its issuer."""
    process = subprocess.Popen(
        # The folder of this file, which would otherwise come first, has a module `socket`.
        [sys.executable, "-P", str(Path(__file__))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        issuer = process.stdout.readline().strip()
        assert issuer, f"the provider did not start: {process.wait()}"
        yield issuer
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def provider_at(issuer: str) -> AsyncIterator[TestProvider]:
    """The process, as if it had just been started."""
    async with httpx.AsyncClient(base_url=issuer, timeout=30, trust_env=False, verify=False) as http:
        one = TestProvider(issuer, http)
        await one.control(afresh=True)
        yield one


def parameters_of(url: str) -> dict[str, str]:
    """Those of its query."""
    return dict(parse_qsl(urlsplit(url).query))


if __name__ == "__main__":
    main()
