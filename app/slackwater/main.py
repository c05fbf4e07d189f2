"""The ASGI application: `uvicorn slackwater.main:app`, `slackwater serve`, or Mangum around it."""

from __future__ import annotations

# First of all: FastAPI's models are built on an empty heap then. After psycopg, Python's allocator gives memory back and
# takes it again while they are built: 3 000 page faults, and 15 ms of each cold start.
import fastapi  # noqa: F401

from slackwater import __version__
from slackwater.kit.imports import imports_are_lazy
from slackwater.lifespan import lifespan
from slackwater.settings import Settings
from slackwater.web.application import Application
from slackwater.web.http import install_error_handlers
from slackwater.web.middleware.setup import default_stack


def create_app(settings: Settings | None = None) -> Application:
    """Create the application. Without `settings`, they are read from the environment when it starts."""
    app = Application(
        title="Slackwater",
        version=__version__,
        description="Serves LangGraph graphs over the LangGraph SDK's HTTP API. A run never dies with its process.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's loads its script from elsewhere
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.stop = app.state.start_error = None
    app.user_middleware += default_stack()
    install_error_handlers(app, app.methods_of)
    if not imports_are_lazy():
        app.build_all()
    return app


app = create_app()
