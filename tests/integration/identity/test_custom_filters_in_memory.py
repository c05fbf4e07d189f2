"""A filter says the same of metadata that are in no row yet as of those in the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slackwater.identity.custom.filters import Filter, checked, holds
from slackwater.identity.custom.queries import condition
from slackwater.postgres import jsonb

VALUES: list[Any] = [
    None,
    True,
    1,
    1.0,
    2,
    "a",
    "",
    ["a"],
    ["a", "b"],
    [1, True],
    [["a"]],
    {},
    {"a": 1},
    {"a": [1]},
]
METADATA: list[dict[str, Any]] = [{}, {"other": "a"}, *({"f": value} for value in VALUES)]
FILTERS: list[Filter] = [
    *({"f": value} for value in VALUES if not isinstance(value, dict)),
    *({"f": {"$eq": value}} for value in VALUES),
    *({"f": {"$contains": value}} for value in VALUES),
    {"f": "a", "other": "a"},
    {"$or": [{"f": "a"}, {"$and": [{"f": {"$contains": "a"}}, {"f": {"$contains": ["b"]}}]}]},
    {"$and": [{"f": True}, {"$or": [{"f": 1}, {"f": {"$eq": True}}]}], "f": True},
]


async def test_it_is_the_same_in_memory(serve: Callable[..., Any], project: Callable[..., Path]) -> None:
    async with serve(project=project()) as api:
        for filter_ in FILTERS:
            assert checked(filter_) is not None
            sql = condition(filter_, column="m")
            rows = await api.database.fetch(
                f"select {sql.condition} as seen from unnest(%(all)s::jsonb[]) with ordinality u(m, n) order by n",
                {**sql.parameters, "all": [jsonb.dumps(metadata).decode() for metadata in METADATA]},
            )
            told = [(metadata, row["seen"]) for metadata, row in zip(METADATA, rows, strict=True)]
            assert told == [(metadata, holds(filter_, metadata)) for metadata in METADATA], filter_
