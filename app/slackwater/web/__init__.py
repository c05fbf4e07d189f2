"""Everything of HTTP before there is a resource: the application, requests, what stands in front, the OpenAPI document."""

from __future__ import annotations
