"""The application object: FastAPI whose routes are built when they are first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

ROUTES = {
    "assistants": ("app.assistants.routes",),
    "threads": ("app.threads.routes", "app.runs.routes"),
    "runs": ("app.runs.routes",),
}
"""The modules with the routes of a resource, by the first part of their paths."""

OTHERS = ("app.system.routes",)


class Application(FastAPI):
    """Builds routes with the first request for their resource.

    FastAPI makes a model of every parameter: all of them take a third as long as importing FastAPI, and most environments
    of AWS Lambda are asked for one resource.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._built: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._build_for(scope["path"])
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        self.build_all()
        return super().openapi()

    def build_all(self) -> None:
        """Build every route."""
        for modules in (OTHERS, *ROUTES.values()):
            self._build(modules)

    def _build_for(self, path: str) -> None:
        # Any part, as a proxy's prefix may come first. Too many cost time, and nothing else.
        wanted = [ROUTES[part] for part in path.split("/") if part in ROUTES]
        for modules in wanted or [OTHERS]:
            self._build(modules)

    def _build(self, modules: tuple[str, ...]) -> None:
        for module in modules:
            if module not in self._built:
                self._built.add(module)
                self.include_router(import_module(module).router)
