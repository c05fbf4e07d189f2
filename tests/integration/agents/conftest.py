"""The whole application in this process, for the clients of other protocols."""

from __future__ import annotations

from tests.integration.http.conftest import _as_it_was, api, http, serve

__all__ = ["_as_it_was", "api", "http", "serve"]
