"""Arrays arrive as they were sent."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest

from slackwater.postgres import jsonb
from slackwater.postgres.arrays import (
    Array,
    BoolArray,
    ByteaArray,
    IntArray,
    JsonbArray,
    LongArray,
    TextArray,
    UuidArray,
)
from slackwater.postgres.pool import Database


@pytest.mark.parametrize(
    ("type_", "sent", "expected"),
    [
        ("text", TextArray(["", "plain", 'quote " \\ {,}', "null", "NULL", None, "ünï\n\tcode"]), None),
        ("int", IntArray([0, -1, 2**31 - 1, -(2**31), None]), None),
        ("bigint", LongArray([0, -1, 2**63 - 1, -(2**63), None]), None),
        ("bool", BoolArray([True, None, False]), None),
        (
            "uuid",
            UuidArray(
                [UUID(int=0), UUID(int=2**128 - 1), None, UUID("0190c8f0-1111-7222-8333-444455556666")]
            ),
            None,
        ),
        ("bytea", ByteaArray([b"", b"\\x00", bytes(range(256)), bytes(255), bytes(70_000), None]), None),
        ("bytea", ByteaArray([bytearray(b"a"), memoryview(b"b")]), [b"a", b"b"]),
        (
            "jsonb",
            JsonbArray([jsonb.dumps({"a": [1, 'x"\\y']}), b"null", None]),
            [{"a": [1, 'x"\\y']}, None, None],
        ),
        ("text", TextArray([]), None),
        ("jsonb", JsonbArray([]), None),
        ("uuid", UuidArray([]), None),
    ],
)
@pytest.mark.parametrize("format_", ["s", "b"])
async def test_an_array_comes_back_as_it_was_sent(
    database: Database, type_: str, sent: Array, expected: list[object] | None, format_: str
) -> None:
    row = await database.fetch_one(f"select %(sent){format_}::{type_}[] as back", {"sent": sent})
    assert row is not None
    assert row["back"] == (sent.values if expected is None else expected)


async def test_columns_of_arrays_become_rows(database: Database) -> None:
    rows = await database.fetch(
        "select * from unnest(%(a)b::text[], %(b)b::int[], %(c)b::bytea[], %(d)b::jsonb[]) as t(a, b, c, d)",
        {
            "a": TextArray(["x", None]),
            "b": IntArray([1, 2]),
            "c": ByteaArray([b"\x00", b""]),
            "d": JsonbArray([b"{}", b'"s"']),
        },
    )
    assert rows == [{"a": "x", "b": 1, "c": b"\x00", "d": {}}, {"a": None, "b": 2, "c": b"", "d": "s"}]


async def test_a_number_that_does_not_fit_is_refused(database: Database) -> None:
    with pytest.raises(struct.error):
        await database.fetch("select %(n)b::bigint[]", {"n": LongArray([2**63])})
    assert await database.fetch("select 1 as one") == [{"one": 1}]
