"""Tells a scenario what the project's handlers were told."""

from __future__ import annotations

import told
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def take(request: Request) -> JSONResponse:
    return JSONResponse(told.take(request.path_params["scenario"]))


app = Starlette(routes=[Route("/told/{scenario}", take)])
