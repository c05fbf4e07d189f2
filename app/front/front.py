"""From `http` in `langgraph.json` to what a request meets first, for as long as the process serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from app.errors import GraphImportError
from app.front.arrangement import arrange, effective
from app.front.custom import CustomLifespan
from app.graphs.surface import HttpSpec
from app.imports import in_turn

if TYPE_CHECKING:
    from app.application import Application
    from app.graphs.registry import Graphs
    from app.services import Services


def own_app(graphs: Graphs) -> Starlette | None:
    """The project's application; None if it has none. Raises GraphImportError."""
    own: Any = graphs.custom_app()
    if own is None or isinstance(own, Starlette):
        return own
    assert graphs.http.app is not None
    raise GraphImportError(
        f"http.app ({graphs.http.app.source}): {type(own).__name__} is neither a Starlette nor a FastAPI application."
    )


class Front:
    """What is open in front of the API."""

    def __init__(self, lifespan: CustomLifespan | None) -> None:
        self._lifespan = lifespan

    async def leave(self, seconds: float) -> None:
        """Shut the project's application down, `seconds` at most. The pool is still open then."""
        if self._lifespan is not None:
            await self._lifespan.leave(seconds)


@asynccontextmanager
async def opened(app: Application, services: Services) -> AsyncIterator[Front]:
    """Arrange the front of `app`, and start the project's application, if there is one. Raises StartError."""
    spec = effective(services.graphs.http, services.settings)
    if spec == HttpSpec():
        yield Front(None)  # as it was made
        return
    own = await in_turn(lambda: own_app(services.graphs)) if spec.app else None
    lifespan = None
    state = {}
    if own is not None and spec.app is not None:
        lifespan = CustomLifespan(own, spec.app.source)
        state = dict(await lifespan.enter())
    front = Front(lifespan)
    try:
        arrange(app, spec, own, state)
        yield front
    finally:
        # Only for a start that has failed: a stop does it at the right moment.
        await front.leave(services.settings.hard_reserve_seconds)
