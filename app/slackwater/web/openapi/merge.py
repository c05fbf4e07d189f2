"""One OpenAPI document for the API and the project's custom app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from slackwater.web.openapi.document import KEY, SESSION

_REF = "#/components/schemas/"


def merge(api: Mapping[str, Any], custom: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the custom app's document into the API's. The custom app's operations take precedence, as its routes do.

    Where both have different schemas of the same name, the custom app's is renamed to `Own…`.
    """
    api_schemas: dict[str, Any] = api.get("components", {}).get("schemas", {})
    custom_schemas: dict[str, Any] = custom.get("components", {}).get("schemas", {})
    clashing = [name for name, body in custom_schemas.items() if api_schemas.get(name, body) != body]
    text = orjson.dumps({"paths": custom.get("paths", {}), "schemas": custom_schemas})
    for name in clashing:
        text = text.replace(f'"{_REF}{name}"'.encode(), f'"{_REF}Own{name}"'.encode())
    moved = orjson.loads(text)
    schemas = {f"Own{name}" if name in clashing else name: body for name, body in moved["schemas"].items()}
    components = {
        **custom.get("components", {}),
        **api.get("components", {}),
        "schemas": {**api_schemas, **schemas},
    }
    paths = dict(api["paths"])
    for path, item in moved["paths"].items():
        paths[path] = {**paths.get(path, {}), **item}
    return {**api, "paths": paths, "components": components}


def with_sessions(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a server with accounts: a session does wherever a key does."""
    paths = {
        path: {method: _with_session(operation) for method, operation in item.items()}
        for path, item in document["paths"].items()
    }
    return {**document, "paths": paths}


def _with_session(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    if operation["security"] != [{KEY: []}]:
        return operation
    return {**operation, "security": [{KEY: []}, {SESSION: []}]}


def secured(document: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The document with `auth.openapi`: its schemes, its `security` for all that is not public, and that of single paths."""
    components = document.get("components", {})
    schemes = {**components.get("securitySchemes", {}), **own.get("securitySchemes", {})}
    of_paths: Mapping[str, Mapping[str, Any]] = own.get("paths", {})
    paths = {
        path: {
            method: _secured(operation, own.get("security"), of_paths.get(path, {}).get(method))
            for method, operation in item.items()
        }
        for path, item in document["paths"].items()
    }
    return {**document, "paths": paths, "components": {**components, "securitySchemes": schemes}}


def _secured(operation: Any, everywhere: Any, here: Any) -> Any:
    if not isinstance(operation, dict):
        return operation
    wanted = here if here is not None else everywhere if operation.get("security") else None
    return operation if wanted is None else {**operation, "security": wanted}
