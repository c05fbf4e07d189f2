"""Filters of `on` handlers in SQL, against what the official server does with them in Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from slackwater.identity.custom.filters import Filter, InvalidFilter, checked
from slackwater.identity.custom.queries import condition
from slackwater.postgres.pool import Database

NAMES = st.sampled_from(["a", "b", "$", "%s", "';--", "a.b", "ä"]).filter(lambda name: name[0] != "$")
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "%(y)s", "'", '"', "1", 1.5])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
METADATA = st.dictionaries(NAMES, VALUES, max_size=4)
PLAIN = VALUES.filter(lambda value: not isinstance(value, dict))
FIELDS = st.dictionaries(
    NAMES,
    PLAIN
    | st.fixed_dictionaries({"$eq": VALUES})
    | st.fixed_dictionaries({"$contains": VALUES})
    | st.fixed_dictionaries({"$eq": VALUES, "$contains": VALUES}),
    max_size=2,
)


def grouped(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Filters with `$or` and `$and` over `inner`."""
    parts = st.lists(inner, min_size=2, max_size=3)
    return st.builds(
        lambda fields, groups: {**fields, **groups},
        FIELDS,
        st.fixed_dictionaries({}, optional={"$or": parts, "$and": parts}),
    )


FILTERS = grouped(grouped(FIELDS))


def equal(one: Any, other: Any) -> bool:
    """As JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return (type(one) in (int, float) and type(other) in (int, float) and one == other) or (
        type(one) is type(other) and one == other
    )


def matches(metadata: dict[str, Any], filter_: Filter) -> bool:
    """The oracle."""
    for name, wanted in filter_.items():
        if name == "$or":
            if not any(matches(metadata, part) for part in wanted):
                return False
        elif name == "$and":
            if not all(matches(metadata, part) for part in wanted):
                return False
        else:
            operators = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            if name not in metadata:
                return False
            has = metadata[name]
            if "$eq" in operators and not equal(has, operators["$eq"]):
                return False
            if "$contains" in operators:
                elements = operators["$contains"]
                elements = elements if isinstance(elements, list) else [elements]
                if not isinstance(has, list):
                    return False
                if not all(any(equal(each, one) for one in has) for each in elements):
                    return False
    return True


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows = draw(st.lists(METADATA, min_size=1, max_size=6))
    filter_ = draw(FILTERS)
    if draw(st.booleans()):
        name, value = draw(st.sampled_from([item for row in rows for item in row.items()] or [("a", None)]))
        if isinstance(value, list) and draw(st.booleans()):
            filter_[name] = {"$contains": draw(st.lists(st.sampled_from(value or [1]), max_size=2))}
        else:
            filter_[name] = {"$eq": value} if isinstance(value, dict) else value
    return rows, filter_


@pytest.mark.parametrize("round_", range(2))
async def test_a_filter_in_sql_is_what_it_is_in_python(database: Database, round_: int) -> None:
    """Thousands of rows in one statement each: the filters are drawn first."""
    drawn: list[tuple[list[dict[str, Any]], dict[str, Any]]] = []

    @settings(max_examples=150, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def draw(case: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
        drawn.append(case)

    draw()
    matched = 0
    for rows, given_filter in drawn:
        filter_ = checked(given_filter) or {}
        found = condition(filter_)
        answers = await database.fetch(
            f"select coalesce({found.condition}, false) as matches from jsonb_array_elements(%(rows)s) "
            "with ordinality as r(metadata, n) order by n",
            {**found.parameters, "rows": Jsonb(rows)},
        )
        expected = [matches(row, filter_) for row in rows]
        assert [row["matches"] for row in answers] == expected, (rows, filter_, found)
        matched += any(expected) and not all(expected)
    assert matched > 5, "or nothing has been compared"


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "owner",
        1,
        {"a": {}},
        {"a": {"$gt": 1}},
        {"a": {"b": 1}},
        {"a": {"$eq": 1, "b": 1}},
        {"a": object()},
        {"$not": []},
        {"$where": "1"},
        {1: 1},
        {"a\0": 1},
        {"$or": []},
        {"$or": [{"a": 1}]},
        {"$or": {"a": 1, "b": 1}},
        {"$and": [{"a": 1}, 1]},
        {"$or": [{"$or": [{"$or": [{"a": 1}, {}]}, {}]}, {}]},
    ],
)
def test_what_is_no_filter_is_refused(answer: Any) -> None:
    """Officially some of these are skipped, and everything is seen."""
    with pytest.raises(InvalidFilter):
        checked(answer)


def test_an_empty_filter_is_none() -> None:
    assert checked({}) is None
