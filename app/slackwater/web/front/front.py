"""From `http` in `langgraph.json` to what a request meets first, for as long as the process serves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from slackwater.errors import GraphImportError
from slackwater.identity.loopback import Guard
from slackwater.identity.middleware import Door
from slackwater.kit.imports import run_in_import_thread
from slackwater.project.http import HttpSpec
from slackwater.web.front import cors

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graphs
    from slackwater.services import Services
    from slackwater.settings import Settings
    from slackwater.web.application import Application
    from slackwater.web.front.custom import CustomLifespan, Own


log = logging.getLogger(__name__)


def plain() -> list[Middleware]:
    """What stands before the API of a project that says nothing about it."""
    # CORS is outside the door, so that a browser can read its refusals.
    return [Middleware(Guard), Middleware(CORSMiddleware, **cors.defaults()), Middleware(Door)]


def effective(spec: HttpSpec, settings: Settings) -> HttpSpec:
    """What is served: what `langgraph.json` says, under what the environment does."""
    config = settings.cors_config if settings.cors_config is not None else spec.cors
    origins = settings.cors_allow_origins
    if origins and config is None:
        config = cors.defaults(origins)
    elif origins and config is not None:
        config = {"allow_origins": list(origins), **config}
    return replace(spec, cors=config, mount_prefix=settings.mount_prefix or spec.mount_prefix)


def closed(spec: HttpSpec) -> HttpSpec:
    """The same for a server without keys."""
    config, others = cors.loopback_only(spec.cors if spec.cors is not None else cors.defaults())
    if others:
        log.warning(
            "without an API key no page of %s may call, whatever CORS allows: see `slackwater keys new`",
            ", ".join(others),
            extra={"event": "cors.loopback_only"},
        )
    return replace(spec, cors=config)


def own_app(graphs: Graphs) -> Starlette | None:
    """The project's application; None if it has none. Raises GraphImportError."""
    own: Any = graphs.custom_app()
    if own is None or isinstance(own, Starlette):
        return own
    assert graphs.http.app is not None
    raise GraphImportError(
        f"http.app ({graphs.http.app.source}): {type(own).__name__} is neither a Starlette nor a FastAPI application."
    )


LAST_ANSWERS_SECONDS = 0.5
"""How long the answers of the project's application may still take, once every run has been settled."""


class Front:
    """What is open in front of the API."""

    def __init__(self, lifespan: CustomLifespan | None = None, own: Own | None = None) -> None:
        self._lifespan = lifespan
        self._own = own

    def dismiss(self) -> None:
        """Soon break off what the project's application still answers: a stock server waits for every connection
        before it lets us go on."""
        if self._own is not None and self._own.answering:
            asyncio.get_running_loop().call_later(LAST_ANSWERS_SECONDS, self._break_off, self._own)

    def _break_off(self, own: Own) -> None:
        for task in own.answering:
            if not task.cancelling():  # the server may have done it
                task.cancel()

    async def leave(self, seconds: float) -> None:
        """Shut the project's application down, `seconds` at most. The pool is still open then."""
        if self._lifespan is None or self._own is None:
            return
        until = time.monotonic() + seconds
        if self._own.answering:
            # Before what they use is closed.
            self._break_off(self._own)
            await asyncio.wait(set(self._own.answering), timeout=seconds / 2)
        await self._lifespan.leave(until - time.monotonic())


@asynccontextmanager
async def opened(app: Application, services: Services) -> AsyncIterator[Front]:
    """Arrange the front of `app`, and start the project's application, if there is one. Raises StartError."""
    spec = effective(services.graphs.http, services.settings)
    if services.settings.loopback_only:
        spec = closed(spec)
    if spec == HttpSpec():
        yield Front()  # as it was made
        return
    # Nobody else needs them.
    from slackwater.web.front.arrangement import arrange
    from slackwater.web.front.custom import CustomLifespan, Own, does_not_start

    front = Front()
    own = None
    if spec.app is not None:
        custom = await run_in_import_thread(lambda: own_app(services.graphs))
        assert custom is not None
        lifespan = CustomLifespan(custom, spec.app.source)
        own = Own(custom, await lifespan.enter())
        front = Front(lifespan, own)
    try:
        try:
            arrange(app, spec, own)
        except Exception as error:
            if spec.app is None:
                raise
            raise does_not_start(spec.app.source, "middleware", error) from error
        yield front
    finally:
        # Only for a start that has failed: a stop does it at the right moment.
        await front.leave(services.settings.hard_reserve_seconds)
