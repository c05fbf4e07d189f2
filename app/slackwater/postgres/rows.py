"""What the server answers, and the rows that it is, as psycopg's cursors with `dict_row` make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.abc import Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

_SUCCESS = frozenset((ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY))


def succeeded(results: Sequence[PGresult]) -> bool:
    """Whether a statement has been carried out."""
    return bool(results) and all(result.status in _SUCCESS for result in results)


def rows_of(result: PGresult, transformer: Transformer) -> list[dict[str, Any]]:
    """The rows; [] of a statement that has none."""
    names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
    if not names:
        return []
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, lambda values: dict(zip(names, values, strict=True)))
