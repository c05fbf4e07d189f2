"""The configured models over HTTP: what they are called and what they can do, never a key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from slackwater.errors import NotFound
from slackwater.project.gateway import LlmModel
from slackwater.web.http import CurrentServices, JsonRoute, json_response

router = APIRouter(prefix="/api/models", tags=["llm_models"], route_class=JsonRoute)


@router.get("")
async def list_(services: CurrentServices) -> Response:
    """The models that runs may ask for, in the order of the configuration."""
    spec = services.graphs.gateway
    return json_response(
        {
            "models": [shown(model) for model in spec.models],
            "token_usage": {"enabled": spec.token_usage.enabled},
        }
    )


@router.get("/{name}")
async def get(name: str, services: CurrentServices) -> Response:
    """One of them."""
    model = services.graphs.model(name)
    if model is None:
        raise NotFound(f"Model {name!r} not found")
    return json_response(shown(model))


def shown(model: LlmModel) -> dict[str, Any]:
    """A model as pages see it."""
    return {
        "name": model.name,
        "model": model.model,
        "display_name": model.display_name,
        "description": model.description,
        "supports_thinking": model.supports_thinking,
        "supports_reasoning_effort": model.supports_reasoning_effort,
    }
