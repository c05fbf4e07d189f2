"""Sets up the middleware from `http` in `langgraph.json`, and runs the project's custom app while the process serves."""

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

from slackwater.errors import GraphImportError, SettingsError
from slackwater.identity.loopback import LoopbackOnly
from slackwater.identity.middleware import Authentication
from slackwater.identity.origins import NO_ORIGINS, Origins
from slackwater.kit.imports import run_in_import_thread
from slackwater.project.http import HttpSpec
from slackwater.web.middleware import cors
from slackwater.web.route_table import GATEWAY

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graphs
    from slackwater.services import Services
    from slackwater.settings import Settings
    from slackwater.web.application import Application
    from slackwater.web.middleware.custom_app import CustomApp


log = logging.getLogger(__name__)


def default_stack() -> list[Middleware]:
    """The middleware of a project without `http`."""
    # CORS is outside of authentication, so that a browser can read its errors.
    return [
        Middleware(LoopbackOnly),
        Middleware(CORSMiddleware, **cors.defaults()),
        Middleware(Authentication),
    ]


def effective_spec(spec: HttpSpec, settings: Settings) -> HttpSpec:
    """`spec` from `langgraph.json`, overridden by the settings."""
    config = settings.cors_config if settings.cors_config is not None else spec.cors
    origins = settings.cors_allow_origins
    if origins and config is None:
        config = cors.defaults(origins)
    elif origins and config is not None:
        config = {"allow_origins": list(origins), **config}
    return replace(spec, cors=config, mount_prefix=settings.mount_prefix or spec.mount_prefix)


def listed_origins(spec: HttpSpec, settings: Settings) -> Origins:
    """Whose pages may call with their users' cookies: none, if any page may call."""
    config = effective_spec(spec, settings).cors
    return NO_ORIGINS if config is None or cors.trusts_anybody(config) else Origins.of(config)


def without_open_credentials(spec: HttpSpec) -> HttpSpec:
    """`spec`, whose CORS lets no page call with cookies if any page may call."""
    if spec.cors is None or not cors.trusts_anybody(spec.cors):
        return spec
    log.warning(cors.UNTRUSTED, extra={"event": "cors.no_credentials"})
    return replace(spec, cors={**spec.cors, "allow_credentials": False})


def loopback_spec(spec: HttpSpec) -> HttpSpec:
    """`spec` for a server without keys, whose CORS admits loopback origins only."""
    config, others = cors.loopback_only(spec.cors if spec.cors is not None else cors.defaults())
    if others:
        log.warning(
            "without an API key no page of %s may call, whatever CORS allows: see `slackwater keys new`",
            ", ".join(others),
            extra={"event": "cors.loopback_only"},
        )
    return replace(spec, cors=config)


def require_place_for_gateway(spec: HttpSpec, settings: Settings) -> None:
    """Raises SettingsError, if the whole API is served where the gateway is."""
    prefix = spec.mount_prefix or ""
    if settings.gateway and (prefix == GATEWAY or prefix.startswith(f"{GATEWAY}/")):
        raise SettingsError(
            f"SLACKWATER_GATEWAY serves the gateway below {GATEWAY}, so nothing else can be mounted there: remove the mount prefix "
            f"{prefix} (SLACKWATER_MOUNT_PREFIX, or http.mount_prefix in langgraph.json)."
        )


def custom_app_of(graphs: Graphs) -> Starlette | None:
    """The project's custom app, or None. Raises GraphImportError."""
    app: Any = graphs.custom_app()
    if app is None or isinstance(app, Starlette):
        return app
    assert graphs.http.app is not None
    raise GraphImportError(
        f"http.app ({graphs.http.app.source}): {type(app).__name__} is neither a Starlette nor a FastAPI application."
    )


LAST_RESPONSES_SECONDS = 0.5
"""How long responses of the custom app may still take, once every run has been settled."""


class CustomAppHandle:
    """Stops the project's custom app, if there is one."""

    def __init__(self, custom: CustomApp | None = None) -> None:
        self._custom = custom

    def abort_soon(self) -> None:
        """Abort its requests after LAST_RESPONSES_SECONDS: stock uvicorn waits for every connection before it shuts us down."""
        if self._custom is not None and self._custom.in_flight:
            asyncio.get_running_loop().call_later(LAST_RESPONSES_SECONDS, self._abort, self._custom)

    def _abort(self, custom: CustomApp) -> None:
        for task in custom.in_flight:
            if not task.cancelling():  # the server may have cancelled it
                task.cancel()

    async def shutdown(self, seconds: float) -> None:
        """Abort its requests and leave its lifespan, within `seconds`. The pool is still open then."""
        if self._custom is None:
            return
        until = time.monotonic() + seconds
        if self._custom.in_flight:
            # Before the lifespan closes what they use.
            self._abort(self._custom)
            await asyncio.wait(set(self._custom.in_flight), timeout=seconds / 2)
        await self._custom.lifespan.leave(until - time.monotonic())


@asynccontextmanager
async def installed(app: Application, services: Services) -> AsyncIterator[CustomAppHandle]:
    """Install the middleware of `app`, and start the custom app, if there is one. Raises StartError."""
    spec = without_open_credentials(effective_spec(services.graphs.http, services.settings))
    if services.settings.loopback_only:
        spec = loopback_spec(spec)
    require_place_for_gateway(spec, services.settings)
    app.mount_prefix = spec.mount_prefix or ""
    if spec == HttpSpec():
        yield CustomAppHandle()  # `create_app` has installed the default
        return
    # Imported here: no other project needs them.
    from slackwater.web.middleware.custom_app import CustomApp, CustomAppLifespan, does_not_start
    from slackwater.web.middleware.stack import install

    custom = None
    if spec.app is not None:
        custom_app = await run_in_import_thread(lambda: custom_app_of(services.graphs))
        assert custom_app is not None
        lifespan = CustomAppLifespan(custom_app, spec.app.source)
        custom = CustomApp(custom_app, lifespan, await lifespan.enter())
    handle = CustomAppHandle(custom)
    try:
        try:
            install(app, spec, custom)
        except Exception as error:
            if spec.app is None:
                raise
            raise does_not_start(spec.app.source, "middleware", error) from error
        yield handle
    finally:
        # Only for a start that failed: a stop does it at the right moment.
        await handle.shutdown(services.settings.hard_reserve_seconds)
