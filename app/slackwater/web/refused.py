"""Every answer that refuses a request is counted, whoever gives it: see `identity.audit`."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

from slackwater.identity.audit.refusals import CALLER, REFUSALS, CallerSoFar
from slackwater.kit.refusal import REFUSED
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric


def counting(scope: Scope, send: Send) -> Send:
    """`send`, which counts a refusal. The scope is told who calls, as soon as that is known."""
    scope[CALLER] = CallerSoFar()

    async def send_counting(message: Message) -> None:
        match message["type"]:
            case "http.response.body":
                pass
            case "http.response.start" | "websocket.http.response.start":
                if message["status"] in REFUSALS:
                    _count(message["status"], scope)
            case "websocket.close":
                if message.get("code", 0) - REFUSED in REFUSALS:
                    _count(message["code"] - REFUSED, scope)
        await send(message)

    return send_counting


def _count(status: int, scope: Scope) -> None:
    metrics.count(Metric.REQUESTS_REFUSED)
    # A server that skips the lifespan leaves us without services.
    services = scope.get("state", {}).get("services")
    if services is not None:
        services.refusals.count(status, scope)
