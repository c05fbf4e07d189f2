"""The rules of changing the configuration: what makes no sense is never stored, and nobody's change is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slackwater.errors import ConfigurationChanged
from slackwater.identity.audit.actor import COMMAND, Actor
from slackwater.postgres.pool import Database, Row
from slackwater.project.gateway import CHANGEABLE, GatewaySpec, laid_over
from slackwater.workspace.configuration import queries


@dataclass(frozen=True, slots=True)
class StoredConfiguration:
    """What is stored."""

    version: int
    value: Mapping[str, Any]
    changed_at: datetime

    @property
    def shown(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"version": self.version, "changed_at": self.changed_at.isoformat(), "value": self.value}

    @classmethod
    def of(cls, row: Row) -> StoredConfiguration:
        return cls(row["version"], row["value"], row["changed_at"])


async def read(database: Database) -> StoredConfiguration:
    """What is laid over `langgraph.json` now."""
    return StoredConfiguration.of(await queries.read(database))


async def troubles(database: Database) -> list[Row]:
    """Why processes could not use it: `problem`, how many `processes`, the last one's `process` and `said_at`."""
    return await queries.troubles(database)


async def change(
    database: Database,
    own: GatewaySpec,
    wanted: Mapping[str, Any],
    *,
    version: int | None = None,
    actor: Actor = COMMAND,
) -> StoredConfiguration:
    """Lay `wanted` over what is stored, and that over `own`, what `langgraph.json` says: null takes a key away.

    Raises SettingsError for what makes no sense, and ConfigurationChanged if it is not the `version` that the caller has read, or
    somebody else is faster.
    """
    before = await read(database)
    if version is not None and version != before.version:
        raise ConfigurationChanged(
            f"The configuration has version {before.version} and not {version}: somebody else has changed it, and nothing was "
            "written. See `slackwater config show`, and set it again."
        )
    value = laid_over(before.value, wanted)
    own.changed_by(value)
    # A key that is taken away counts, too.
    keys = [key for key in CHANGEABLE if before.value.get(key) != value.get(key)]
    row = await queries.change(database, before.version, value, keys, actor)
    if row is None:
        raise ConfigurationChanged
    return StoredConfiguration.of(row)


def usable(own: GatewaySpec, value: Mapping[str, Any]) -> GatewaySpec:
    """What is in force with `value` laid over `own`, in this process. Raises SettingsError if it cannot be used here."""
    spec = own.changed_by(value)
    if "models" in value:
        for model in spec.models:
            model.arguments()  # this environment may lack a variable
    return spec
