"""HTTP before any resource: the application, requests, middleware, the OpenAPI document."""

from __future__ import annotations
