"""What the routes of models answer."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.errors import ConfigurationUnusable, NotFound
from slackwater.web.openapi.pieces import Operation, Response, Shape

TAG = "The models that runs may ask for."


class OfferedModel(Shape):
    """A model, and what it can do."""

    name: str
    model: str
    display_name: str | None
    description: str | None
    supports_thinking: bool
    supports_reasoning_effort: bool


class TokenCounting(Shape):
    """Whether pages show token counts."""

    enabled: bool


class OfferedModels(Shape):
    """All of them."""

    models: list[OfferedModel]
    token_usage: TokenCounting


_ONE = {
    "name": "fast",
    "model": "openai:gpt-5-mini",
    "display_name": "Fast",
    "description": None,
    "supports_thinking": False,
    "supports_reasoning_effort": True,
}

OPERATIONS: Mapping[str, Operation] = {
    "GET /api/models": Operation(
        id="list_models",
        responses={
            200: Response("The models.", OfferedModels, {"models": [_ONE], "token_usage": {"enabled": True}})
        },
        errors=(ConfigurationUnusable,),
        stored=False,
    ),
    "GET /api/models/{name}": Operation(
        id="get_model",
        responses={200: Response("The model.", OfferedModel, _ONE)},
        parameters={"name": {"description": "The name of a model.", "example": "fast"}},
        errors=(NotFound, ConfigurationUnusable),
        stored=False,
    ),
}
