"""A filter of custom authentication as SQL: its names and values are parameters, and no part of them is in the statement."""

from __future__ import annotations

import re
from typing import Any

import pytest

from slackwater.identity.custom.queries import condition, visible

EVIL = "x') or true; drop table slackwater.threads; -- %(owner)s"


@pytest.mark.parametrize(
    "filter_",
    [
        {EVIL: EVIL},
        {EVIL: {"$eq": EVIL}},
        {EVIL: {"$eq": {EVIL: [EVIL]}}},
        {EVIL: {"$contains": EVIL}},
        {EVIL: {"$contains": [EVIL, {EVIL: EVIL}]}},
        {"$or": [{EVIL: EVIL}, {"$and": [{"a": 1}, {EVIL: {"$contains": [EVIL]}}]}]},
    ],
    ids=["value", "$eq", "nested", "$contains", "$contains several", "groups"],
)
def test_no_part_of_a_filter_gets_into_the_statement(filter_: dict[str, Any]) -> None:
    for found in (condition(filter_), visible(filter_), visible(filter_, system=True)):
        assert not re.search("drop|true|--|;", found.condition)
        assert "owner)s" not in found.condition
        named = set(re.findall(r"%\((\w+)\)s", found.condition))
        assert named == found.parameters.keys()
        assert any(EVIL in str(value) for value in found.parameters.values())
