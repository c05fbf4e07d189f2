"""The configuration as it is kept, and what comes of a change by somebody who has seen an older one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from slackwater.errors import Conflict
from slackwater.workspace.mcp_servers.models import McpConfigPut, McpServer
from slackwater.workspace.mcp_servers.secrets import plain, shown, with_secrets

_REVISION = re.compile(r"(\d{1,18})-([0-9a-f]{16})")

Check = Callable[[str, McpServer], None]
"""Raises if a server may not be as it is."""


MOST_REMOVED = 100
"""How many removed servers are remembered."""


class McpConfigChanged(Conflict):
    """The MCP servers have been changed meanwhile, by another request: read them again, and repeat your change."""


class McpServerUnseen(Conflict):
    """Somebody else has changed an MCP server that you would change or remove, and the request does not say that you have seen it. Read
    them again, and send the `revision` of each back with your change, or the `ETag` as `If-Match`; `If-Match: *` replaces them anyhow."""


@dataclass(frozen=True, slots=True)
class KeptServer:
    """A server, the versions of the configuration in which it came, and has changed last, and who has changed it."""

    server: McpServer
    made: int
    changed: int
    by: str | None


@dataclass(frozen=True, slots=True)
class McpDocument:
    """All of them. Version 0: nobody has configured any."""

    version: int = 0
    servers: Mapping[str, KeptServer] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)
    """What was sent beside the servers."""
    removed: Mapping[str, str | None] = field(default_factory=dict)
    """Who has removed which server: the last ones."""
    updated_at: datetime | None = field(default=None, compare=False)
    """If it was read."""

    @classmethod
    def read(cls, text: str, version: int, updated_at: datetime) -> McpDocument:
        """What `text` has written."""
        kept = json.loads(text)
        servers = {
            name: KeptServer(McpServer.model_validate(one["server"]), one["made"], one["changed"], one["by"])
            for name, one in kept["servers"].items()
        }
        return cls(version, servers, kept["other"], kept["removed"], updated_at)

    @property
    def text(self) -> str:
        """ASCII."""
        servers = {
            name: {
                "server": one.server.model_dump(mode="json", exclude={"revision"}),
                "made": one.made,
                "changed": one.changed,
                "by": one.by,
            }
            for name, one in self.servers.items()
        }
        kept = {"servers": servers, "other": self.other, "removed": self.removed}
        return json.dumps(kept, separators=(",", ":"))

    def shown(self) -> dict[str, Any]:
        """As those see it who may change it."""
        servers = {}
        for name, one in self.servers.items():
            said = shown(one.server)
            servers[name] = {**said, "revision": f"{self.version}-{_digest(said)}"}
        return {"mcp_servers": servers}

    def outlined(self) -> dict[str, Any]:
        """As all others see it: what there is, and not where."""
        nothing = plain(McpServer())
        return {
            "mcp_servers": {
                name: {
                    **nothing,
                    "enabled": one.server.enabled,
                    "type": one.server.type.value,
                    "description": one.server.description,
                }
                for name, one in self.servers.items()
            }
        }


def merged(
    now: McpDocument, put: McpConfigPut, check: Check, *, by: str | None = None, replace_all: bool = False
) -> McpDocument:
    """What is to be kept. Who has changed a server does not undo what another has done to the others.

    Nor do they if they do not say what they have seen, unless they `replace_all` of it: then what they have seen is not asked.

    Raises McpConfigChanged if both have changed the same one, McpServerUnseen, McpSecretMissing, and what `check` raises.
    """
    revisions = {name: None if replace_all else _seen(server) for name, server in put.mcp_servers.items()}
    base = min((seen[0] for seen in revisions.values() if seen is not None), default=None)
    if base is not None and base > now.version:
        raise McpConfigChanged
    blind = base is None and not replace_all
    servers: dict[str, KeptServer] = {}
    for name, given in put.mcp_servers.items():
        kept, seen = now.servers.get(name), revisions[name]
        if seen is not None and not _has_other_keys(given) and seen[1] == _digest(plain(given)):
            if kept is not None:  # else it was removed meanwhile
                servers[name] = kept
            continue
        since = seen[0] if seen is not None else base
        if since is not None and (kept.changed > since if kept is not None else seen is not None):
            if kept is None or plain(given) != shown(kept.server):
                raise McpConfigChanged
            servers[name] = kept
            continue
        server = with_secrets(name, given, kept.server if kept is not None else None)
        if kept is not None and server == kept.server:
            servers[name] = kept
            continue
        check(name, server)
        if blind and (kept.by if kept is not None else now.removed.get(name, by)) != by:
            raise McpServerUnseen
        servers[name] = KeptServer(server, kept.made if kept else now.version + 1, now.version + 1, by)
    removed = dict(now.removed)
    for name, kept in now.servers.items():
        if name in put.mcp_servers:
            continue
        if base is not None and kept.changed > base:
            if kept.made <= base:
                raise McpConfigChanged
            servers[name] = kept  # it came meanwhile
            continue
        if blind and kept.by != by:
            raise McpServerUnseen
        removed[name] = by
    gone = [(name, who) for name, who in removed.items() if name not in servers]
    other = {key: value for key, value in {**now.other, **put.other}.items() if value is not None}
    return McpDocument(now.version + 1, servers, other, dict(gone[-MOST_REMOVED:]))


def differences(before: McpDocument, after: McpDocument) -> dict[str, str]:
    """What has been done to each server that has changed: `added`, `changed`, `removed`."""
    told = dict.fromkeys(before.servers.keys() - after.servers.keys(), "removed")
    for name, one in after.servers.items():
        kept = before.servers.get(name)
        if kept is None:
            told[name] = "added"
        elif kept.server != one.server:
            told[name] = "changed"
    return told


def _has_other_keys(server: McpServer) -> bool:
    """Such as are not shown, so that a digest says nothing of them."""
    return bool(server.model_extra or (server.oauth is not None and server.oauth.model_extra))


def _seen(server: McpServer) -> tuple[int, str] | None:
    """The version that was seen, and the digest of what was seen of it. Raises McpConfigChanged for what never was one."""
    if server.revision is None:
        return None
    found = _REVISION.fullmatch(server.revision)
    if found is None:
        raise McpConfigChanged
    return int(found[1]), found[2]


def _digest(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
