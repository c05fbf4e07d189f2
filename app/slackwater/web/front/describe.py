"""One OpenAPI document for the API and the project's own application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

_REF = "#/components/schemas/"


def with_own(schema: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The API's document with the paths of the application, which come first, as they do when they are asked.

    Where both have a schema of one name that says something else, the application's is called `Own…`.
    """
    ours: dict[str, Any] = schema.get("components", {}).get("schemas", {})
    theirs: dict[str, Any] = own.get("components", {}).get("schemas", {})
    text = orjson.dumps({"paths": own.get("paths", {}), "schemas": theirs})
    for name in (name for name in theirs if name in ours and theirs[name] != ours[name]):
        text = text.replace(f'"{_REF}{name}"'.encode(), f'"{_REF}Own{name}"'.encode())
    moved = orjson.loads(text)
    schemas = {
        f"Own{name}" if name in ours and theirs[name] != ours[name] else name: body
        for name, body in moved["schemas"].items()
    }
    components = {**own.get("components", {}), **schema.get("components", {}), "schemas": {**ours, **schemas}}
    paths = dict(schema["paths"])
    for path, item in moved["paths"].items():
        paths[path] = {**paths.get(path, {}), **item}
    return {**schema, "paths": paths, "components": components}
