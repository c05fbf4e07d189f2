"""Serves the page from the origin of the API, as a reverse proxy would."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

FOLDER = Path(os.environ["PAGE_FOLDER"])

app = Starlette(
    routes=[
        Route("/workspace", lambda _: FileResponse(FOLDER / "index.html")),
        Route("/page.js", lambda _: FileResponse(FOLDER / "page.js")),
    ]
)
