"""Which tools there are, as this process knows it. Nobody waits for a server twice that does not answer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Coroutine, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from slackwater.errors import ApiError, SlackwaterError
from slackwater.kit.moment import Moment
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.workspace.mcp_servers import connection, rules
from slackwater.workspace.mcp_servers.document import McpDocument
from slackwater.workspace.mcp_servers.kept import KeptMcpConfig
from slackwater.workspace.mcp_servers.models import McpServer, McpTransport
from slackwater.workspace.mcp_servers.oauth import OAuthTokens
from slackwater.workspace.mcp_servers.variables import resolved

T = TypeVar("T")

log = logging.getLogger(__name__)

POLL_SECONDS = 8.0
"""After this time the configuration is asked for again by whoever needs it: a change takes effect within ten seconds."""

LIST_SECONDS = 5.0
"""How long a server may take to say which tools it has, and how long a run waits for one that has never said it."""

START_SECONDS = 60.0
"""How long one may take that is a process, which may have to be installed first. Nobody waits longer for it."""

FRESH_SECONDS = 60.0
"""After this time it is asked again, while what it has said is used."""

AGAIN_SECONDS = 15.0
"""After this time one that has not answered is asked again, while nobody waits."""

_HARMLESS = frozenset({"ConnectError", "ConnectTimeout", "ReadTimeout"})
"""Errors of the HTTP client that say nothing of the request."""


@dataclass(slots=True)
class Listing:
    """What a server has said, or is being asked."""

    server: McpServer
    tools: list[Any] | None = None
    """None: it has never said anything."""
    asked: Moment | None = None
    """When the last answer, or none, came."""
    failed: bool = False
    """Whether none came."""
    late: bool = False
    """Whether somebody has waited in vain: nobody waits again."""
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class McpCatalog:
    """Belongs to the event loop of the process."""

    def __init__(
        self,
        config: KeptMcpConfig,
        commands: Collection[str],
        variables: Collection[str],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._config = config
        self._commands, self._variables, self._environment = commands, variables, environment
        self.tokens = OAuthTokens()
        self._document: McpDocument | None = None
        self._asked: Moment | None = None
        self._question: asyncio.Task[McpDocument] | None = None
        self._listings: dict[str, Listing] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        """Those that are under way, also of listings that nobody needs any more."""

    async def listed(self, names: Collection[str] | None) -> list[tuple[str, McpServer, list[Any]]]:
        """Each server that is on, or those of these names, with its tools. Those that have said nothing are left out.

        Raises McpNotInstalled, and McpConfigUnreadable and what the database raises if the configuration was never read.
        """
        document = await self._current()
        on = {name: kept.server for name, kept in document.servers.items() if kept.server.enabled}
        for gone in self._listings.keys() - on.keys():
            self._forget(gone)
        wanted = {name: server for name, server in on.items() if names is None or name in names}
        if not wanted:
            return []
        await connection.load()
        listings = [(name, self._listing(name, server)) for name, server in wanted.items()]
        first = {
            one.task for _, one in listings if one.asked is None and one.task is not None and not one.late
        }
        if first:
            await asyncio.wait(first, timeout=LIST_SECONDS)
            for _, one in listings:
                one.late = one.late or one.asked is None
        return [(name, one.server, one.tools) for name, one in listings if one.tools is not None]

    def resolved(self, name: str, server: McpServer) -> McpServer:
        """As it is called now. Raises McpVariableMissing, and InvalidMcpServer if its command is not allowed any more."""
        if server.type is McpTransport.STDIO:
            rules.require_command(name, server.command, self._commands)
        return resolved(server, self._variables, self._environment)

    async def apart(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """What it returns. Whoever is cancelled leaves at once: `mcp` tells the server first, for which a silent one lets it wait."""
        task = self._task(work, name)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            raise
        return task.result()

    async def close(self, seconds: float) -> None:
        """Ask nobody any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    # The configuration

    async def _current(self) -> McpDocument:
        document, asked = self._document, self._asked
        if document is not None and asked is not None and asked.age < POLL_SECONDS:
            return document
        if self._question is None:
            self._question = self._task(self._load(), "mcp:config")
            self._question.add_done_callback(self._answered)
        try:
            # Whoever leaves does not take the answer from the others.
            return await asyncio.shield(self._question)
        except (*DATABASE_UNAVAILABLE, ApiError) as error:
            if document is None:
                raise
            log.warning(
                "the configuration of MCP servers could not be read, the last one is used: %s",
                error,
                extra={"event": "mcp.config_stale"},
            )
            return document

    async def _load(self) -> McpDocument:
        asked = Moment.now()
        document = await self._config.read(self._document)
        self._document, self._asked = document, asked
        return document

    def _answered(self, task: asyncio.Task[McpDocument]) -> None:
        if self._question is task:
            self._question = None

    # The tools

    def _listing(self, name: str, server: McpServer) -> Listing:
        one = self._listings.get(name)
        if one is None or one.server != server:
            self._forget(name)
            one = self._listings[name] = Listing(server)
        if one.task is None and (
            one.asked is None or one.asked.age >= (AGAIN_SECONDS if one.failed else FRESH_SECONDS)
        ):
            one.task = self._task(self._list(name, one), f"mcp:list:{name}")
        return one

    async def _list(self, name: str, one: Listing) -> None:
        try:
            starts = one.server.type is McpTransport.STDIO
            async with asyncio.timeout(START_SECONDS if starts else LIST_SECONDS):
                server = self.resolved(name, one.server)
                headers = await self.tokens.headers(server.oauth)
                one.tools = await self.apart(connection.list_tools(server, headers), f"mcp:ask:{name}")
            one.failed = False
        except Exception as error:
            one.failed = True
            log.warning(
                "the MCP server %s does not say which tools it has: %s",
                name,
                told(error),
                extra={"event": "mcp.unavailable", "server": name},
            )
        finally:
            one.asked, one.task = Moment.now(), None

    def _forget(self, name: str) -> None:
        one = self._listings.pop(name, None)
        if one is not None and one.task is not None:
            one.task.cancel()

    def _task(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        # It works for no run, not even for the one that needs it first, and does not end with it.
        task = asyncio.create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # those who wait have it


def told(error: BaseException) -> str:
    """What went wrong, out of the groups that tasks of `mcp` raise: nothing that could have a secret of the configuration in it, such as
    an address or a header."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"it answered {status}"
    if isinstance(error, SlackwaterError | OSError) or type(error).__name__ in _HARMLESS:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return type(error).__name__
