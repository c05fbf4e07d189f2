"""The configuration in the database, encrypted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from slackwater.errors import ApiError, Draining
from slackwater.identity.signing.encryption import Encryption, Sealed
from slackwater.kit.imports import run_in_import_thread
from slackwater.postgres.pool import Database, Row
from slackwater.workspace.mcp_servers import queries
from slackwater.workspace.mcp_servers.document import McpConfigChanged, McpDocument, differences

log = logging.getLogger(__name__)

TRIES = 12
"""How often a change is made again of what others have left."""

PIECE = 40_000
"""Characters that are encrypted at a time: joserfc takes 64 KiB in base64."""

MOST = 400_000


class McpConfigUnreadable(ApiError):
    """This process cannot read the configuration of MCP servers: its SLACKWATER_ENCRYPTION_KEY is not that by which it was encrypted. If
    that key is lost, delete the row of slackwater.mcp_config and configure the servers again."""

    status = 503
    headers = Draining.headers


class McpConfigTooLarge(ApiError):
    """The configuration of MCP servers may have 400 KB: remove some, or shorten what is said of them."""

    status = 413


class KeptMcpConfig:
    """What this process reads and writes of it."""

    def __init__(self, database: Database, encryption: Encryption) -> None:
        self._database = database
        self._encryption = encryption

    async def open(self) -> None:
        """Before a process serves: encrypt it as the settings say. What cannot be read stops nothing else."""
        row = await queries.read(self._database)
        if row is None or row["sealed_by"] == self._encryption.first:
            return
        try:
            text = await self._unsealed(row)
        except McpConfigUnreadable:
            log.error(
                "the configuration of MCP servers cannot be decrypted",
                extra={"event": "mcp.config_unreadable"},
            )
            return
        if await queries.reseal(
            self._database,
            document=await self._sealed(text),
            sealed_by=self._encryption.first,
            version=row["version"],
            was=row["sealed_by"],
        ):
            log.info(
                "the configuration of MCP servers was encrypted anew", extra={"event": "mcp.config_resealed"}
            )

    async def read(self, known: McpDocument | None = None) -> McpDocument:
        """As it is now: `known`, if it is still that. Raises McpConfigUnreadable."""
        before = known or McpDocument()
        row = await queries.read(self._database, before.version, before.updated_at)
        if row is None:
            return McpDocument()
        if row["document"] is None:
            assert known is not None
            return known
        return McpDocument.read(await self._unsealed(row), row["version"], row["updated_at"])

    async def change(
        self, make: Callable[[McpDocument], McpDocument], actor: Mapping[str, Any]
    ) -> McpDocument:
        """Write what is made of it. Raises McpConfigUnreadable, McpConfigTooLarge, McpConfigChanged, and what `make` raises."""
        for _ in range(TRIES):
            now = await self.read()
            after = make(now)
            told = differences(now, after)
            if not told and after.other == now.other:
                return now
            if len(text := after.text) > MOST:
                raise McpConfigTooLarge
            done = await queries.write(
                self._database,
                document=await self._sealed(text),
                sealed_by=self._encryption.first,
                version=now.version,
                told=told,
                actor=actor,
            )
            if done:
                if self._encryption.first is None:
                    log.warning(
                        "The configuration of MCP servers is not encrypted in the database: set SLACKWATER_ENCRYPTION_KEY.",
                        extra={"event": "mcp.config_unencrypted"},
                    )
                return after
        raise McpConfigChanged

    async def _sealed(self, text: str) -> list[str]:
        by = self._encryption.first
        if by is not None:
            await run_in_import_thread(_import)
        return [self._encryption.seal(text[at : at + PIECE], by) for at in range(0, len(text), PIECE)]

    async def _unsealed(self, row: Row) -> str:
        if row["sealed_by"] is not None:
            await run_in_import_thread(_import)
        try:
            return "".join(self._encryption.unseal(piece, row["sealed_by"]) for piece in row["document"])
        except Sealed:
            raise McpConfigUnreadable from None


def _import() -> None:
    import joserfc.jwe  # noqa: F401
