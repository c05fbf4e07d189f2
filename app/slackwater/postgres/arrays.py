"""Arrays on their way into a statement.

psycopg's own dumper of lists looks up a dumper for each element of each list, and walks it three times: with twenty
arrays in the statement of a superstep that was an eighth of a run's CPU time. Here the type is known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from struct import Struct
from typing import Any, ClassVar

from psycopg import adapters
from psycopg.adapt import Dumper
from psycopg.pq import Format

_NULL = b"\xff\xff\xff\xff"
_pack_length = Struct(">i").pack
_LENGTHS = [_pack_length(size) for size in range(256)]
_pack_head = Struct(">iiIii").pack  # dimensions, has nulls, the elements' type, how many, from which index
_pack_empty = Struct(">iiI").pack


class Array:
    """One dimension; None is NULL."""

    __slots__ = ("values",)
    sql: ClassVar[str]
    """The type's name in Postgres."""

    oid: ClassVar[int]
    element_oid: ClassVar[int]
    encode: ClassVar[staticmethod[[Any], bytes]]
    """The binary format of an element."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values

    def dump(self) -> bytes:
        """The binary format of the array."""
        values, encode = self.values, self.encode
        if not values:
            return _pack_empty(0, 0, self.element_oid)
        parts, has_nulls = [b""], False
        for value in values:
            if value is None:
                parts.append(_NULL)
                has_nulls = True
            else:
                data = encode(value)
                size = len(data)
                parts += (_LENGTHS[size] if size < len(_LENGTHS) else _pack_length(size)), data
        parts[0] = _pack_head(1, has_nulls, self.element_oid, len(values), 1)
        return b"".join(parts)


class TextArray(Array):
    """`text[]`, of str."""

    __slots__ = ()
    sql = "text[]"


class IntArray(Array):
    """`int[]`."""

    __slots__ = ()
    sql = "int[]"


class LongArray(Array):
    """`bigint[]`."""

    __slots__ = ()
    sql = "bigint[]"


class BoolArray(Array):
    """`bool[]`."""

    __slots__ = ()
    sql = "bool[]"


class FloatArray(Array):
    """`float8[]`."""

    __slots__ = ()
    sql = "float8[]"


class UuidArray(Array):
    """`uuid[]`, of UUID."""

    __slots__ = ()
    sql = "uuid[]"


class ByteaArray(Array):
    """`bytea[]`, of bytes."""

    __slots__ = ()
    sql = "bytea[]"


class JsonbArray(Array):
    """`jsonb[]`, of what `slackwater.postgres.jsonb.dumps` has made."""

    __slots__ = ()
    sql = "jsonb[]"


def _register(kind: type[Array], oid: int, element_oid: int, encode: Callable[[Any], bytes]) -> None:
    class ArrayDumper(Dumper):
        format = Format.BINARY

        def dump(self, obj: Array) -> bytes:
            return obj.dump()

    ArrayDumper.oid = kind.oid = oid
    kind.element_oid = element_oid
    kind.encode = staticmethod(encode)
    adapters.register_dumper(kind, ArrayDumper)


# The oids are those of the types that every Postgres has.
_register(TextArray, 1009, 25, str.encode)
_register(IntArray, 1007, 23, _pack_length)
_register(LongArray, 1016, 20, Struct(">q").pack)
_register(BoolArray, 1000, 16, Struct("?").pack)
_register(FloatArray, 1022, 701, Struct(">d").pack)
_register(UuidArray, 2951, 2950, attrgetter("bytes"))
_register(ByteaArray, 1001, 17, bytes)
_register(JsonbArray, 3807, 3802, b"\x01".__add__)  # the version of the binary format
