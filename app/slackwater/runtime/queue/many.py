"""SQL shared by statements for one item and for many: a parameter of the former is a column of `asked a` in the latter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from slackwater.postgres import jsonb
from slackwater.postgres.arrays import Array

Of = Callable[[str], str]
"""How a shared fragment refers to a value of an item: `of("run_id")`."""


def of_one(name: str) -> str:
    """In the statement for one item: a parameter."""
    return f"%({name})s"


def of_each(name: str) -> str:
    """In the statement for many: a column of `asked a`."""
    return f'a."{name}"'


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters that differ from item to item."""

    columns: Mapping[str, type[Array]]

    @property
    def cte(self) -> str:
        """The CTE `asked`: a row for each item, with its 1-based position as `n`."""
        arrays = ", ".join(f"%({name})b::{type_.sql}" for name, type_ in self.columns.items())
        names = ", ".join(f'"{name}"' for name in self.columns)
        return f"asked as materialized (\n  select a.* from unnest({arrays})\n  with ordinality as a({names}, n)\n)"

    def parameters(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The items' parameters as columns; others are ignored."""
        return {name: type_([item[name] for item in items]) for name, type_ in self.columns.items()}


def dumped(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a statement for one item, as `Asked.parameters` takes them."""
    return {
        name: jsonb.dumps(value.obj) if isinstance(value, Jsonb) else value
        for name, value in parameters.items()
    }


UNCHANGED = "version = (select t.xmin from slackwater.threads t where t.thread_id = a.thread_id)"
"""The locked row of the thread (`version`) is the one in the statement's snapshot. Adding a run writes the thread's row, so
the statement sees all of the thread's runs as well."""
