"""What is never shown of a server, and how it is kept when what was shown comes back."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from slackwater.errors import BadRequest
from slackwater.workspace.mcp_servers.models import McpOAuth, McpServer

MASK = "***"


class McpSecretMissing(BadRequest):
    """A masked value stands for one that is stored: send the value itself."""


def plain(server: McpServer) -> dict[str, Any]:
    """What may be said of a server, as it is: with its secrets, without what only we know."""
    names = set(McpServer.model_fields) - {"revision"}
    if not server.identity:
        names.discard("identity")
    if server.tool_call_timeout is None:
        names.discard("tool_call_timeout")
    said = server.model_dump(mode="json", include=names)
    if server.oauth is not None:
        said["oauth"] = server.oauth.model_dump(mode="json", include=set(McpOAuth.model_fields))
    return said


def shown(server: McpServer) -> dict[str, Any]:
    """The same without secrets."""
    said = plain(server)
    said["env"], said["headers"] = dict.fromkeys(server.env, MASK), dict.fromkeys(server.headers, MASK)
    said["url"] = None if server.url is None else masked_url(server.url)
    if (oauth := said["oauth"]) is not None:
        oauth |= {"client_secret": None, "refresh_token": None, "token_url": masked_url(oauth["token_url"])}
        oauth["extra_token_params"] = dict.fromkeys(oauth["extra_token_params"], MASK)
    return said


def masked_url(url: str) -> str:
    """Many servers take their key in the query."""
    before, mark, query = url.partition("?")
    if not mark:
        return url
    pairs = (pair.partition("=") for pair in query.split("&"))
    return f"{before}?" + "&".join(f"{name}={MASK}" if equals else name for name, equals, _ in pairs)


def with_secrets(name: str, given: McpServer, old: McpServer | None) -> McpServer:
    """What is sent for a server, with what is stored of it where that is masked. Raises McpSecretMissing.

    A secret is kept for the server that it was given for: whoever sends it elsewhere has to know it.
    """
    stays = old is not None and _destination(given) == _destination(old)
    known = old if stays else None
    extra = {**(old.model_extra or {} if old else {}), **(given.model_extra or {})}
    changed: dict[str, Any] = {
        "env": _unmasked(f"env key '%s' of '{name}'", given.env, known.env if known else {}),
        "headers": _unmasked(f"header '%s' of '{name}'", given.headers, known.headers if known else {}),
        "url": given.url and _url(f"url of '{name}'", given.url, old.url if old else None),
        "oauth": given.oauth and _oauth(name, given.oauth, old.oauth if old else None, stays=stays),
    }
    said = {**given.model_dump(include=set(McpServer.model_fields)), **changed, "revision": None}
    return McpServer.model_validate(said | {key: value for key, value in extra.items() if value is not None})


def _unmasked(what: str, given: dict[str, str], old: dict[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if value == MASK and key not in old:
            raise McpSecretMissing(
                f"Cannot set {what % key} to masked value '{MASK}'; provide a real value. "
                "It stands for a value that is stored for the same server, with the same type, command, args and origin."
            )
    return {key: old[key] if value == MASK else value for key, value in given.items()}


def _url(what: str, given: str, old: str | None) -> str:
    if MASK not in given.partition("?")[2]:
        return given
    if old is None or masked_url(old) != given:
        raise McpSecretMissing(
            f"Cannot set the {what} to one with '{MASK}' in its query; provide a real one."
        )
    return old


def _oauth(name: str, given: McpOAuth, old: McpOAuth | None, *, stays: bool) -> McpOAuth:
    """`stays`: whether the server is the same. Whoever is sent the token has as much of it as who gives it out."""
    same = stays and old is not None and _origin(old.token_url) == _origin(given.token_url)
    known = old if same else None
    if known is None and old is not None and _lacks_secret(given, old):
        raise McpSecretMissing(
            f"The oauth of '{name}' is for another server or token_url: send its secrets, too, or '' for none."
        )
    params = known.extra_token_params if known else {}
    extra = {**(old.model_extra or {} if old else {}), **(given.model_extra or {})}
    return given.model_copy(
        update={
            "token_url": _url(f"token_url of '{name}'", given.token_url, known.token_url if known else None),
            "client_secret": _kept(given.client_secret, known.client_secret if known else None),
            "refresh_token": _kept(given.refresh_token, known.refresh_token if known else None),
            "extra_token_params": _unmasked(
                f"extra_token_params '%s' of '{name}'", given.extra_token_params, params
            ),
            **extra,
        }
    )


def _lacks_secret(given: McpOAuth, old: McpOAuth) -> bool:
    return any(
        stored is not None and sent is None
        for sent, stored in (
            (given.client_secret, old.client_secret),
            (given.refresh_token, old.refresh_token),
        )
    )


def _kept(given: str | None, old: str | None) -> str | None:
    """Null keeps it, an empty text clears it."""
    return old if given is None else given or None


def _destination(server: McpServer) -> tuple[Any, ...]:
    """Who is given its secrets. The arguments of a command may decide what it runs."""
    return server.type, server.command, server.args, _origin(server.url)


def _origin(url: str | None) -> tuple[str, str] | str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return (parts.scheme.lower(), parts.netloc.lower()) if parts.netloc else url
