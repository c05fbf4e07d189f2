"""What the routes of the store answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from slackwater.errors import BadRequest, PageTooLarge
from slackwater.web.openapi.parameters import MOMENT
from slackwater.web.openapi.pieces import NO_CONTENT, Operation, Response, Shape

TAG = "Values that graphs and their callers keep across threads, by namespace and key."


class Item(Shape):
    """A value in the store."""

    namespace: list[str]
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class ItemFound(Item):
    """A value in the store, and its similarity to the query."""

    score: float | None
    """null without a query."""


class ItemsFound(Shape):
    """Most recently written first or, with a `query` and an index, most similar first."""

    items: list[ItemFound]


class Namespaces(Shape):
    """In alphabetical order."""

    namespaces: list[list[str]]


_KEY = {"namespace": ["users", "maria"], "key": "food"}
_ONE = {**_KEY, "value": {"likes": "olives"}, "created_at": MOMENT, "updated_at": MOMENT}
_REFRESH = {
    "refresh_ttl": {
        "description": "Whether reading restarts the item's time to live; the default comes from `langgraph.json`."
    }
}

OPERATIONS: Mapping[str, Operation] = {
    "PUT /store/items": Operation(
        id="put_item",
        responses={204: NO_CONTENT},
        errors=(BadRequest,),
        bodies={"for a day": {**_KEY, "value": {"likes": "olives"}, "ttl": 1440}},
    ),
    "GET /store/items": Operation(
        id="get_item",
        responses={200: Response("The item, or null.", Item | None, _ONE)},
        errors=(BadRequest,),
        parameters={
            "namespace": {
                "description": "The labels of the namespace, joined by periods.",
                "required": True,
                "schema": {"type": "string", "pattern": r"^[^.\u0000]+(\.[^.\u0000]+)*$"},
                "example": "users.maria",
            },
            "key": {
                "description": "The key in the namespace.",
                "required": True,
                "schema": {"type": "string", "pattern": r"^[^\u0000]+$"},
                "example": "food",
            },
            **_REFRESH,
        },
    ),
    "DELETE /store/items": Operation(
        id="delete_item",
        responses={204: Response("The item does not exist, or no longer does.")},
        errors=(BadRequest,),
        bodies={"one": _KEY},
    ),
    "POST /store/items/search": Operation(
        id="search_items",
        responses={200: Response("The items.", ItemsFound, {"items": [{**_ONE, "score": None}]})},
        errors=(BadRequest, PageTooLarge),
        bodies={
            "by value": {"namespace_prefix": ["users"], "filter": {"age": {"$gte": 18}}, "limit": 5},
            "by meaning": {"namespace_prefix": ["users", "maria"], "query": "what she eats"},
        },
    ),
    "POST /store/namespaces": Operation(
        id="list_namespaces",
        responses={200: Response("The namespaces.", Namespaces, {"namespaces": [["users", "maria"]]})},
        bodies={"of users": {"prefix": ["users", "*"], "max_depth": 2}},
    ),
}
