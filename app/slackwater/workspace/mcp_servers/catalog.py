"""Which tools there are, as this process knows it. Nobody waits twice for a server that does not answer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
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

RETRY_SECONDS = 2.0
"""After this time it is asked for again when it could not be read."""

LIST_SECONDS = 5.0
"""How long a server may take to say which tools it has, and how long a run waits for one that has never said it."""

START_SECONDS = 60.0
"""How long one may take that is a process, which may have to be installed first. Nobody waits longer for it."""

FRESH_SECONDS = 60.0
"""After this time it is asked again, while what it has said is used."""

AGAIN_SECONDS = 15.0
"""After this time one that has not answered is asked again, while nobody waits."""

CLOSE_SECONDS = 10.0
"""How long the end of a connection may take, of which nobody waits for anything: `mcp` ends a process within seven."""

PROCESSES = 8
"""How many servers of the type `stdio` run at a time."""

_HARMLESS = frozenset({"AnswerTooLarge", "ConnectError", "ConnectTimeout", "ReadTimeout"})
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
        self._failed: Moment | None = None
        self._loading: asyncio.Task[McpDocument] | None = None
        self._processes = asyncio.Semaphore(PROCESSES)
        self._listings: dict[str, Listing] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        """Those that are under way, also of listings that nobody needs any more."""
        self._ending: set[asyncio.Task[Any]] = set()
        """Those of them that close their connection. Being cancelled then, `mcp` would leave a process behind."""

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
        unanswered = {
            listing.task
            for _, listing in listings
            if listing.asked is None and listing.task is not None and not listing.late
        }
        if unanswered:
            await asyncio.wait(unanswered, timeout=LIST_SECONDS)
            for _, listing in listings:
                listing.late = listing.late or listing.asked is None
        return [
            (name, listing.server, listing.tools) for name, listing in listings if listing.tools is not None
        ]

    def resolved(self, name: str, server: McpServer) -> McpServer:
        """As it is called now. Raises McpVariableMissing, and InvalidMcpServer if its command is not allowed any more."""
        if server.type is McpTransport.STDIO:
            rules.require_command(name, server.command, self._commands)
        return resolved(server, self._variables, self._environment)

    async def ask(
        self,
        server: McpServer,
        question: Callable[[Mapping[str, str]], AbstractAsyncContextManager[T]],
        name: str,
    ) -> T:
        """What a server, which is resolved, answers to a question, which is given the headers of its token."""
        asked = question(await self.tokens.headers(server.oauth))
        try:
            return await self.apart(asked, name, is_process=server.type is McpTransport.STDIO)
        except Exception:
            self.tokens.forget(server.oauth)  # which it may have refused: `mcp` does not say so
            raise

    async def apart(self, asked: AbstractAsyncContextManager[T], name: str, *, is_process: bool = False) -> T:
        """What is answered. Nobody waits for the connection to be closed, neither who has the answer nor who is cancelled: a server that
        hangs would keep them, and an answer that is there would come too late."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        async def work() -> None:
            async with AsyncExitStack() as stack:
                if is_process:
                    await stack.enter_async_context(self._processes)
                answer.set_result(await stack.enter_async_context(asked))

        task = self._task(work(), name)
        either: set[asyncio.Future[Any]] = {task, answer}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._end(task)
            raise
        finally:
            if not task.done():
                self._ending.add(task)
                loop.call_later(CLOSE_SECONDS, task.cancel)
        if not answer.done():
            task.result()  # raises what went wrong
        return answer.result()

    async def close(self, seconds: float) -> None:
        """Ask nobody any more."""
        for task in self._tasks:
            self._end(task)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    # The configuration

    async def _current(self) -> McpDocument:
        document, asked, failed = self._document, self._asked, self._failed
        if document is not None and (
            (asked is not None and asked.age < POLL_SECONDS)
            or (failed is not None and failed.age < RETRY_SECONDS)
        ):
            return document
        if self._loading is None:
            self._loading = self._task(self._load(), "mcp:config")
            self._loading.add_done_callback(self._loaded)
        try:
            # Whoever leaves does not take the answer from the others.
            return await asyncio.shield(self._loading)
        except (*DATABASE_UNAVAILABLE, ApiError) as error:
            if document is None:
                raise
            self._failed = Moment.now()
            log.warning(
                "the configuration of MCP servers could not be read, the last one is used: %s",
                error,
                extra={"event": "mcp.config_stale"},
            )
            return document

    async def _load(self) -> McpDocument:
        asked = Moment.now()
        document = await self._config.read(self._document)
        self._document, self._asked, self._failed = document, asked, None
        return document

    def _loaded(self, task: asyncio.Task[McpDocument]) -> None:
        if self._loading is task:
            self._loading = None

    # The tools

    def _listing(self, name: str, server: McpServer) -> Listing:
        listing = self._listings.get(name)
        if listing is None or listing.server != server:
            self._forget(name)
            listing = self._listings[name] = Listing(server)
        if listing.task is None and (
            listing.asked is None or listing.asked.age >= (AGAIN_SECONDS if listing.failed else FRESH_SECONDS)
        ):
            listing.task = self._task(self._list(name, listing), f"mcp:list:{name}")
        return listing

    async def _list(self, name: str, listing: Listing) -> None:
        try:
            starts = listing.server.type is McpTransport.STDIO
            async with asyncio.timeout(START_SECONDS if starts else LIST_SECONDS):
                server = self.resolved(name, listing.server)
                question = partial(connection.list_tools, server)
                listing.tools = await self.ask(server, question, f"mcp:ask:{name}")
            listing.failed = False
        except Exception as error:
            listing.failed = True
            log.warning(
                "the MCP server %s does not say which tools it has: %s",
                name,
                reason_of(error),
                extra={"event": "mcp.unavailable", "server": name},
            )
        finally:
            listing.asked, listing.task = Moment.now(), None

    def _forget(self, name: str) -> None:
        listing = self._listings.pop(name, None)
        if listing is not None and listing.task is not None:
            listing.task.cancel()

    def _task(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        # It works for no run, not even for the one that needs it first, and does not end with it.
        task = asyncio.create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        if task not in self._ending and not task.done():
            self._ending.add(task)
            task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # those who wait have it


def reason_of(error: BaseException) -> str:
    """What went wrong, out of the groups that tasks of `mcp` raise: nothing that could have a secret of the configuration in it, such as
    an address or a header."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"it answered {status}"
    if isinstance(error, SlackwaterError | OSError) or type(error).__name__ in _HARMLESS:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(code := getattr(error, "code", None), int):  # MCPError, whose text is the server's
        return f"{type(error).__name__} {code}"
    return type(error).__name__
