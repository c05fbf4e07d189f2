"""What an application of the project's own does that is perhaps not meant."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from slackwater.web.middleware.custom_app import warnings

PAGES = PlainTextResponse("hi")


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (Starlette(routes=[Mount("/pages", PAGES)]), []),
        (Starlette(routes=[Mount("/", PAGES)]), ["app mounts something at /"]),
        (Starlette(middleware=[Middleware(CORSMiddleware)]), ["app has CORSMiddleware"]),
    ],
)
def test_what_is_told(app: Starlette, told: list[str]) -> None:
    found = warnings(app, ours=False)

    assert [warning[: len(beginning)] for warning, beginning in zip(found, told, strict=True)] == told


def test_with_cors_of_the_servers_own_that_of_the_application_is_its_affair() -> None:
    assert warnings(Starlette(middleware=[Middleware(CORSMiddleware)]), ours=True) == []
