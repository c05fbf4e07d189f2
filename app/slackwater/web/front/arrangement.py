"""The order in which a request meets what stands in front of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import Scope

from slackwater.identity.loopback import Guard
from slackwater.identity.middleware import Door, is_public
from slackwater.project.http import Group, HttpSpec
from slackwater.web.front import cors, custom
from slackwater.web.front.custom import Custom, Own
from slackwater.web.front.prefix import Prefix
from slackwater.web.front.requests import RequestLog
from slackwater.web.front.switches import Switches
from slackwater.web.http import failed
from slackwater.web.route_table import PROBES, RESERVED
from slackwater.web.scope import path_of

if TYPE_CHECKING:
    from slackwater.web.application import Application


def arrange(app: Application, spec: HttpSpec, own: Own | None = None) -> None:
    """Put it before the routes of `app`, in place of what was there."""
    # CORS is outside the door, so that a browser can read its refusals.
    config = spec.cors if spec.cors is not None else cors.defaults()
    stack = [Middleware(Guard), Middleware(CORSMiddleware, **config)]
    if spec.logging_headers:
        stack.append(Middleware(RequestLog, spec.logging_headers))
    if spec.mount_prefix:
        stack.append(Middleware(Prefix, spec.mount_prefix))
    stack += _guarded(app, spec, own) if own is not None else [Middleware(Door)]
    if spec.disabled:
        stack.append(Middleware(Switches, spec.disabled))
    app.disabled = spec.disabled
    app.own = own.app if own is not None else None
    app.user_middleware[:] = stack
    app.middleware_stack = app.build_middleware_stack()


def _guarded(app: Application, spec: HttpSpec, own: Own) -> list[Middleware]:
    """The project's application, and the door where it was asked for."""
    reserved = PROBES if Group.META in spec.disabled else RESERVED

    def takes(scope: Scope) -> bool:
        return path_of(scope) not in reserved and custom.takes(own.app.routes, scope)

    def application(*inside: Middleware) -> list[Middleware]:
        given: dict[str, Any] = {"own": own, "api": app.router, "reserved": reserved, "inside": inside}
        # An error of the API's is answered as always, and not by the project's application.
        return [Middleware(Custom, **given), Middleware(ServerErrorMiddleware, handler=failed)]

    if spec.custom_route_auth:
        # Also where its route has the path of a public one of ours.
        door = Middleware(Door, lambda scope: is_public(scope) and not takes(scope), introduces=True)
        return [door, *application()] if spec.auth_first else application(door)
    if spec.auth_first:
        door = Middleware(Door, lambda scope: is_public(scope) or takes(scope), introduces=True)
        return [door, *application()]
    return [*application(), Middleware(Door)]
