"""Requests to one provider: what it says of itself, its keys, and the tokens for a code.

Each is bounded in time and size, goes nowhere but where the provider's own document says, and is not redirected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from slackwater.identity.oidc import metadata as discovery
from slackwater.identity.oidc.errors import ProviderRefused, ProviderUnavailable
from slackwater.identity.oidc.login import Login
from slackwater.identity.oidc.metadata import Metadata, WrongMetadata
from slackwater.identity.oidc.provider import Provider
from slackwater.kit.answers import Answers
from slackwater.kit.imports import run_in_import_thread

if TYPE_CHECKING:
    from ssl import SSLContext

    from joserfc.jwk import KeySet

log = logging.getLogger(__name__)

T = TypeVar("T")

REQUEST_SECONDS = 10.0
"""How long one answer may take, from the connection to its last byte."""

FRESH_SECONDS = 3600.0
"""After this time the provider is asked again for its document and its keys."""

STALE_SECONDS = 86_400.0
"""So long they are relied on while it does not answer."""

SCOPE = "openid email"


class ProviderClient:
    """Belongs to the event loop of the process."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._metadata: Answers[str, Metadata] = Answers()
        self._keys: Answers[str, KeySet] = Answers()
        self._tls: SSLContext | None = None

    async def metadata(self) -> Metadata:
        """What the provider says of itself. Raises ProviderUnavailable."""
        url = discovery.url_of(self._provider.issuer)
        return await self._relied_on(self._metadata, url, self._read_metadata)

    async def keys(self, metadata: Metadata) -> KeySet:
        """Its keys, as they were lately. Raises ProviderUnavailable."""
        return await self._relied_on(self._keys, metadata.jwks_uri, self._read_keys)

    async def new_keys(self, metadata: Metadata) -> KeySet:
        """Its keys, as they are now. Raises ProviderUnavailable."""
        with self._keys.asking(metadata.jwks_uri) as asked:
            keys = await self._read_keys(metadata.jwks_uri)
        self._keys.remember(metadata.jwks_uri, keys, asked)
        return keys

    async def url_for(self, login: Login, metadata: Metadata) -> str:
        """Where the browser goes to log in."""
        await self._ready()
        async with self._session(metadata, login.redirect_uri) as session:
            url, _ = session.create_authorization_url(
                metadata.authorization_endpoint,
                state=login.state,
                nonce=login.nonce,
                code_verifier=login.verifier,
            )
        return str(url)

    async def tokens(self, login: Login, metadata: Metadata, code: str) -> Mapping[str, Any]:
        """What the provider gives for a code: `id_token`, and an `access_token`. Raises ProviderRefused, ProviderUnavailable."""
        await self._ready()
        from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]

        async def exchange() -> Mapping[str, Any]:
            async with self._session(metadata, login.redirect_uri) as session:
                session.register_compliance_hook("access_token_response", _answered)
                try:
                    found: Mapping[str, Any] = await session.fetch_token(
                        metadata.token_endpoint,
                        grant_type="authorization_code",
                        code=code,
                        code_verifier=login.verifier,
                    )
                except TypeError as error:  # Authlib counts with numbers that may be none
                    raise ValueError(str(error)) from error
                return found

        try:
            return await self._bounded("token", exchange)
        except OAuthError as error:
            name = str(error.error)[:64]
            self._complain("token", f"it answered {name!r}")
            if name == "invalid_grant":  # the code was used, has expired, or was somebody else's
                raise ProviderRefused from None
            raise ProviderUnavailable from None

    async def userinfo(self, metadata: Metadata, access_token: str) -> Mapping[str, Any]:
        """What the provider tells of the user beyond the ID token. Raises ProviderUnavailable."""
        if metadata.userinfo_endpoint is None:
            return {}
        found = await self._get(metadata.userinfo_endpoint, {"Authorization": f"Bearer {access_token}"})
        return found if isinstance(found, Mapping) else {}

    # Documents

    async def _relied_on(self, answers: Answers[str, T], url: str, read: Callable[[str], Awaitable[T]]) -> T:
        known = answers.recall(url, fresh=FRESH_SECONDS, stale=STALE_SECONDS)
        if known is not None:
            return known.value
        try:
            with answers.asking(url) as asked:
                value = await read(url)
        except ProviderUnavailable:
            last = answers.recall(url, fresh=STALE_SECONDS, stale=STALE_SECONDS)
            if last is None:
                raise
            return last.value
        answers.remember(url, value, asked)
        return value

    async def _read_metadata(self, url: str) -> Metadata:
        document = await self._get(url)
        try:
            return Metadata.of(document, self._provider.issuer)
        except WrongMetadata as problem:
            self._complain("metadata", str(problem))
            raise ProviderUnavailable from None

    async def _read_keys(self, url: str) -> KeySet:
        from slackwater.identity.oidc.id_token import keys_of

        document = await self._get(url)
        try:
            return keys_of(document)
        except ValueError as problem:
            self._complain("keys", str(problem))
            raise ProviderUnavailable from None

    # Requests

    async def _get(self, url: str, headers: Mapping[str, str] | None = None) -> object:
        async def get() -> object:
            async with self._session() as session:
                answer = await session.request("GET", url, headers=headers, withhold_token=True)
                if answer.status_code != 200:
                    raise ValueError(f"it answered {answer.status_code}")
                found: object = answer.json()
                return found

        return await self._bounded(url, get)

    async def _bounded(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        await self._ready()
        import httpx2

        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await ask()
        except TimeoutError:
            problem = f"no answer within {REQUEST_SECONDS:g} s"
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        except (ValueError, RecursionError) as error:  # it is no JSON, or not what was expected
            problem = f"{type(error).__name__}: {error}"
        self._complain(what, problem[:500])
        raise ProviderUnavailable

    def _complain(self, what: str, problem: str) -> None:
        log.warning(
            "the provider %s did not do as expected (%s): %s",
            self._provider.name,
            what,
            problem,
            extra={"event": "oidc.trouble", "provider": self._provider.name, "what": what},
        )

    async def _ready(self) -> None:
        """Import what requests need, which takes longer than they do, and does not count as the provider's time."""
        if self._tls is None:
            self._tls = await run_in_import_thread(_imported)

    def _session(self, metadata: Metadata | None = None, redirect_uri: str | None = None) -> Any:
        """An OAuth client of Authlib's."""
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]

        from slackwater.identity.oidc.transport import BoundedTransport

        assert self._tls is not None
        secret = self._provider.client_secret
        method = (
            "client_secret_post"
            if metadata is not None and metadata.secret_in_body
            else "client_secret_basic"
        )
        return AsyncOAuth2Client(
            self._provider.client_id,
            secret,
            token_endpoint_auth_method=method if secret is not None else "none",
            scope=SCOPE,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            transport=BoundedTransport(verify=self._tls, trust_env=False),
            timeout=REQUEST_SECONDS,
            headers={"Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
        )


def _imported() -> SSLContext:
    import httpx2
    from authlib.integrations import httpx_client  # type: ignore[import-untyped]  # noqa: F401

    from slackwater.identity.oidc import id_token, transport  # noqa: F401

    return httpx2.create_ssl_context()


def _answered(answer: Any) -> Any:
    """The token endpoint's answer, if it is one: Authlib looks at the body alone. Raises ValueError."""
    if answer.status_code not in (200, 400, 401, 403):
        raise ValueError(f"it answered {answer.status_code}")
    return answer
