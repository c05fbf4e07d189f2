"""Which servers may be configured."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from slackwater.errors import BadRequest
from slackwater.workspace.mcp_servers.models import McpServer, McpTransport

NAME_CHARACTERS = 128

VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
"""A value that stands for one of the environment."""

COMMAND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_REDIRECTS = re.compile(
    r"PATH|(LD|DYLD|NPM_CONFIG|UV|PIP|XDG)_.*|NODE_(OPTIONS|PATH)|PYTHON(PATH|HOME|STARTUP|USERBASE)|PERL5(LIB|OPT)|RUBY(LIB|OPT)|"
    r"_?JAVA_(TOOL_)?OPTIONS|GCONV_PATH|HOME|BASH_ENV|ENV|SHELLOPTS",
    re.IGNORECASE,
)
"""Variables by which a process runs something else than the executable that is allowed."""


class InvalidMcpServer(BadRequest):
    """A server of the configuration cannot be as it is."""


def check(name: str, server: McpServer, *, commands: Collection[str], signs: bool) -> None:
    """See that a server may be configured so. `commands`: those that may be started. `signs`: whether there are tokens that say who calls.

    Raises InvalidMcpServer.
    """
    if not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable() or not name.strip():
        raise InvalidMcpServer(f"The name of an MCP server has 1 to {NAME_CHARACTERS} printable characters.")
    if server.type is McpTransport.STDIO:
        require_command(name, server.command, commands)
    elif not _is_address(server.url):
        raise InvalidMcpServer(
            f"MCP server '{name}' needs a url: http:// or https://, without a user and password, which belong into headers."
        )
    for variable in server.env:
        if not _VARIABLE_NAME.fullmatch(variable) or _REDIRECTS.fullmatch(variable):
            raise InvalidMcpServer(
                f"MCP server '{name}' cannot be given the environment variable '{variable}'."
            )
    for header, value in server.headers.items():
        if not _HEADER_NAME.fullmatch(header) or _CONTROL.search(value):
            raise InvalidMcpServer(f"MCP server '{name}' cannot be sent the header '{header}'.")
    if any("\0" in text for text in (*server.args, *server.env.values())):
        raise InvalidMcpServer(f"MCP server '{name}': a value contains NUL.")
    if server.oauth is not None and server.oauth.enabled and not _is_address(server.oauth.token_url):
        raise InvalidMcpServer(f"MCP server '{name}' needs a token_url in oauth: http:// or https://.")
    if server.identity and not signs:
        raise InvalidMcpServer(
            f"MCP server '{name}' cannot be told whose run calls, as this server signs no tokens: set SLACKWATER_ACCOUNTS=true or "
            "SLACKWATER_DATABASE_KEYS=true."
        )


def require_command(name: str, command: str | None, commands: Collection[str]) -> None:
    """Raises InvalidMcpServer if it is not one that may be started."""
    if not commands:
        raise InvalidMcpServer(
            f"MCP server '{name}' is of the type stdio, which this server does not start: use http or sse, or let whoever runs the "
            "server allow executables by SLACKWATER_MCP_COMMANDS."
        )
    if not command or not COMMAND.fullmatch(command):
        raise InvalidMcpServer(
            f"MCP server '{name}': the command must be a single executable name; put parameters in args instead."
        )
    if command not in commands:
        raise InvalidMcpServer(
            f"MCP server '{name}': the command '{command}' is not allowed. Allowed: {', '.join(sorted(commands))} "
            "(SLACKWATER_MCP_COMMANDS)."
        )


def _is_address(url: str | None) -> bool:
    if not url:
        return False
    if VARIABLE.fullmatch(url):
        return True
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and url.isprintable()
        and " " not in url
    )
