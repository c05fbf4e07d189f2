"""Statements that are sent over and over again: converted by what is known of them, and prepared once per session.

For a short statement, planning takes longer than carrying it out. And psycopg looks for the placeholders of a long one
each time, and for a dumper of each parameter.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count
from secrets import token_hex
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from psycopg import DataError
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import fetch_many, send
from psycopg.pq import DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

from slackwater.postgres.arrays import Array

Key: TypeAlias = tuple[bytes, tuple[int, ...]]
"""What makes a statement another one: its text, and the types of its parameters."""

HotStatement: TypeAlias = tuple[str, Mapping[str, Any]]
"""A text with named placeholders, which is one of few, and its parameters."""

MAX_PREPARED = 100
"""Statements that one session keeps. Further ones are sent as they are."""

_STALE = (b"26000", b"0A000")
"""The statement is not there any more (DISCARD, DEALLOCATE, a pooler), or its plan would give other types (a migration)."""

_TEXT, _BINARY = Format.TEXT, Format.BINARY  # a member of an enum takes a while to be found
_PLACEHOLDER = re.compile(r"%(?:\((\w+)\)[sbt]|%)")
_BIGINT = 2**63
_pack_bigint = struct.Struct(">q").pack
_pack_double = struct.Struct(">d").pack


class Query(NamedTuple):
    """A statement as it is sent."""

    query: bytes
    params: Sequence[Buffer | None]
    formats: Sequence[Format]
    types: tuple[int, ...]


def encoded(sql: str, values: Mapping[str, Any]) -> Query:
    """The query that this statement is. Raises KeyError, DataError.

    Whole numbers are always `bigint`, so that a statement has the same types each time, whatever its values are;
    strings are of whatever type their place wants.
    """
    query, names = _numbered(sql)
    params: list[Buffer | None] = []
    formats: list[Format] = []
    types: list[int] = []
    for name in names:
        param, format_, type_ = _encode(values[name])
        params.append(param)
        formats.append(format_)
        types.append(type_)
    return Query(query, params, formats, tuple(types))


@lru_cache(maxsize=1000)
def _numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """The text with `$1`, `$2`, …, and the names of the parameters in this order."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1]
        return "%" if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}"

    return _PLACEHOLDER.sub(number, sql).encode(), tuple(numbers)


def _encode(value: Any) -> tuple[Buffer | None, Format, int]:
    if isinstance(value, Array):
        return value.dump(), _BINARY, value.oid
    kind = type(value)
    if value is None:
        return None, _TEXT, 0
    if kind is UUID:
        return value.bytes, _BINARY, 2950
    if kind is str:
        if "\0" in value:  # libpq would end there
            raise DataError("a string for PostgreSQL cannot contain NUL (0x00) characters")
        return value.encode(), _TEXT, 0
    if kind is int and -_BIGINT <= value < _BIGINT:
        return _pack_bigint(value), _BINARY, 20
    if kind is float:
        return _pack_double(value), _BINARY, 701
    dumper = Transformer().get_dumper(value, PyFormat.AUTO)
    return dumper.dump(value), dumper.format, dumper.oid


class Prepared:
    """What is prepared in one session.

    A name is never used twice, by any process: where something in between gives our session to others after all, a name
    that it does not know is an error, and never another statement.
    """

    _process = token_hex(6)
    _numbers = count()

    def __init__(self, room: int = MAX_PREPARED) -> None:
        self.names: dict[Key, bytes] = {}
        self._room = room

    def new_name(self, key: Key) -> bytes | None:
        """A name for one more statement; None if the session has enough of them, those that were lost included."""
        if not self._room:
            return None
        self._room -= 1
        name = self.names[key] = f"sw_{self._process}_{next(self._numbers)}".encode()
        return name


def carry_out(
    pgconn: PGconn, queries: Sequence[Any], prepared: Prepared | None = None
) -> PQGen[list[list[PGresult]]]:
    """All queries in one network flush and one transaction; the results of each, errors included.

    If one of them is not in the session any more, all are sent a second time, as they are: nothing was done at the first.
    """
    if prepared is not None:
        answers = yield from _exchange(pgconn, queries, prepared)
        if not any(_is_stale(results) for results in answers):
            return answers
        prepared.names.clear()  # the others may have met the same; what is needed is prepared anew
    return (yield from _exchange(pgconn, queries, Prepared(room=0)))


def _exchange(pgconn: PGconn, queries: Sequence[Any], prepared: Prepared) -> PQGen[list[list[PGresult]]]:
    asked: list[Key | None] = []
    """What each answer is about: a statement that is to be prepared; None for a query."""
    pgconn.enter_pipeline_mode()
    for query in queries:
        key = (query.query, query.types)
        name = prepared.names.get(key)
        if name is None and (name := prepared.new_name(key)) is not None:
            pgconn.send_prepare(name, query.query, param_types=query.types)
            asked.append(key)
        if name is not None:
            pgconn.send_query_prepared(name, query.params, param_formats=query.formats)
        else:
            pgconn.send_query_params(
                query.query, query.params, param_formats=query.formats, param_types=query.types
            )
        asked.append(None)
    pgconn.pipeline_sync()
    yield from send(pgconn)
    answers: list[list[PGresult]] = []
    while len(answers) < len(asked):
        answers.append((yield from fetch_many(pgconn)))
    yield from fetch_many(pgconn)  # the Sync itself
    pgconn.exit_pipeline_mode()
    found: list[list[PGresult]] = []
    refusal: list[PGresult] = []
    for statement, results in zip(asked, answers, strict=True):
        if statement is None:
            # Of a statement that could not be prepared it is the reason that counts, not that it was skipped then.
            found.append(refusal or results)
            refusal = []
        elif results[0].status != ExecStatus.COMMAND_OK:
            del prepared.names[statement]
            refusal = results
    return found


def _is_stale(results: Sequence[PGresult]) -> bool:
    return any(result.error_field(DiagnosticField.SQLSTATE) in _STALE for result in results)
