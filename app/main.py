"""The ASGI application: `uvicorn app.main:app`, `slackwater serve`, or Mangum around it."""

from __future__ import annotations

from app import __version__
from app.application import Application
from app.front.front import plain
from app.http import install_error_handlers
from app.imports import late
from app.lifespan import lifespan
from app.settings import Settings


def create_app(settings: Settings | None = None) -> Application:
    """The application; without `settings` they are read from the environment when it starts."""
    app = Application(
        title="Slackwater",
        version=__version__,
        description="LangGraph graphs over the LangGraph SDK's HTTP API; a run never dies with its process.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.stopping = app.state.start_error = None
    app.user_middleware += plain()
    install_error_handlers(app, app.methods_of)
    if not late():
        app.build_all()
    return app


app = create_app()
