"""The order in which a request passes the middleware in front of the routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import Scope

from slackwater.identity.loopback import LoopbackOnly
from slackwater.identity.middleware import Authentication, is_public
from slackwater.project.http import HttpSpec, RouteGroup
from slackwater.web.http import failed
from slackwater.web.middleware import cors
from slackwater.web.middleware.custom_app import CustomApp, CustomAppMiddleware, matches
from slackwater.web.middleware.disabled_routes import DisabledRoutes
from slackwater.web.middleware.mount_prefix import MountPrefix
from slackwater.web.middleware.request_log import RequestLog
from slackwater.web.route_table import PROBES, RESERVED
from slackwater.web.scope import is_of_accounts, path_of

if TYPE_CHECKING:
    from slackwater.web.application import Application


def install(app: Application, spec: HttpSpec, custom: CustomApp | None = None) -> None:
    """Install the middleware that `spec` asks for, replacing what `app` has."""
    # CORS is outside of authentication, so that a browser can read its errors.
    config = spec.cors if spec.cors is not None else cors.defaults()
    stack = [Middleware(LoopbackOnly), Middleware(CORSMiddleware, **config)]
    if spec.logging_headers:
        stack.append(Middleware(RequestLog, spec.logging_headers))
    if spec.mount_prefix:
        stack.append(Middleware(MountPrefix, spec.mount_prefix))
    stack += _with_custom_app(app, spec, custom) if custom is not None else [Middleware(Authentication)]
    if spec.disabled:
        stack.append(Middleware(DisabledRoutes, spec.disabled))
    app.disabled = spec.disabled
    app.custom_app = custom.app if custom is not None else None
    app.user_middleware[:] = stack
    app.middleware_stack = app.build_middleware_stack()


def _with_custom_app(app: Application, spec: HttpSpec, custom: CustomApp) -> list[Middleware]:
    """The custom app and authentication, in the order that `spec` asks for."""
    paths = PROBES if RouteGroup.META in spec.disabled else RESERVED

    def reserved(scope: Scope) -> bool:
        path = path_of(scope)
        return path in paths or is_of_accounts(scope, path)

    def is_custom(scope: Scope) -> bool:
        return not reserved(scope) and matches(custom.app.routes, scope)

    def custom_app(*inside: Middleware) -> list[Middleware]:
        options: dict[str, Any] = {
            "custom": custom,
            "api": app.router,
            "reserved": reserved,
            "inside": inside,
        }
        # Errors of the API get the usual response, and not that of the custom app.
        return [Middleware(CustomAppMiddleware, **options), Middleware(ServerErrorMiddleware, handler=failed)]

    if spec.custom_route_auth:
        # Also where a custom route has the path of a public one of the API.
        authentication = Middleware(
            Authentication, lambda scope: is_public(scope) and not is_custom(scope), set_user=True
        )
        return [authentication, *custom_app()] if spec.auth_first else custom_app(authentication)
    if spec.auth_first:
        authentication = Middleware(
            Authentication, lambda scope: is_public(scope) or is_custom(scope), set_user=True
        )
        return [authentication, *custom_app()]
    return [*custom_app(), Middleware(Authentication)]
