"""What is said of one item, said of many: what is a parameter of the statement for one is a column of `asked a` here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from slackwater.postgres import jsonb
from slackwater.postgres.arrays import Array

Of = Callable[[str], str]
"""How a fragment that both statements share says a value of an item: `of("run_id")`."""


def of_one(name: str) -> str:
    """In the statement for one item: a parameter."""
    return f"%({name})s"


def of_each(name: str) -> str:
    """In the statement for many: a column of `asked a`."""
    return f'a."{name}"'


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of which each item has its own."""

    columns: Mapping[str, type[Array]]

    @property
    def cte(self) -> str:
        """`asked`: a row for each item, and its 1-based position as `n`."""
        arrays = ", ".join(f"%({name})b::{type_.sql}" for name, type_ in self.columns.items())
        names = ", ".join(f'"{name}"' for name in self.columns)
        return f"asked as materialized (\n  select a.* from unnest({arrays})\n  with ordinality as a({names}, n)\n)"

    def parameters(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Those of the items' own parameters that are asked for, as columns."""
        return {name: type_([item[name] for item in items]) for name, type_ in self.columns.items()}


def dumped(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the statement for one item, as `Asked.parameters` takes them."""
    return {
        name: jsonb.dumps(value.obj) if isinstance(value, Jsonb) else value
        for name, value in parameters.items()
    }


UNCHANGED = "version = (select t.xmin from slackwater.threads t where t.thread_id = a.thread_id)"
"""The thread's row of `a`, locked as `version`, is the one that this statement has seen from its beginning. Whoever adds a run
to a thread writes its row: so the statement has seen all its runs, too."""
