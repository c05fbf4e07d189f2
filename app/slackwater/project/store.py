"""What `langgraph.json` says of the store: how long items live, and by what they are found by meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slackwater.errors import SettingsError

DISTANCES = ("cosine", "l2", "inner_product")
MAX_DIMS = 16_000
"""pgvector's limit."""


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """`store.index`."""

    dims: int
    embed: str
    """`./file.py:function`, or `provider:model` for LangChain."""
    fields: tuple[str, ...]
    """Which parts of a value are indexed; `$` is all of it."""
    distance: str


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """`store`."""

    index: IndexSpec | None = None
    default_ttl: float | None = None
    """Minutes; None: for ever."""
    refresh_on_read: bool = True

    @classmethod
    def read(cls, value: object, file: Path) -> StoreSpec:
        """Read the key `store` of `file`. Raises SettingsError."""
        content = _object(value, f"{file}: store")
        if content.get("path"):
            # Elsewhere than its author wanted is no place for data.
            raise SettingsError(
                f"{file}: store.path: custom stores are not supported yet: remove the key to keep items in Postgres."
            )
        ttl = _object(content.get("ttl"), f"{file}: store.ttl")
        minutes, refresh = ttl.get("default_ttl"), ttl.get("refresh_on_read", True)
        if minutes is not None and not _is_positive(minutes):
            raise SettingsError(
                f"{file}: store.ttl.default_ttl must be a number of minutes, not {minutes!r}."
            )
        if not isinstance(refresh, bool):
            raise SettingsError(f"{file}: store.ttl.refresh_on_read must be true or false, not {refresh!r}.")
        index = _index(content["index"], f"{file}: store.index") if content.get("index") else None
        return cls(index, minutes, refresh)


def _index(value: object, place: str) -> IndexSpec:
    content = _object(value, place)
    dims, embed = content.get("dims"), content.get("embed")
    fields, distance = content.get("fields") or ["$"], content.get("distance_type", DISTANCES[0])
    if not isinstance(dims, int) or isinstance(dims, bool) or not 0 < dims <= MAX_DIMS:
        raise SettingsError(
            f"{place}.dims must be the number of dimensions of a vector, 1 to {MAX_DIMS}, not {dims!r}."
        )
    if not isinstance(embed, str) or not all(embed.rpartition(":")[::2]):
        raise SettingsError(f"{place}.embed: write ./file.py:function or provider:model, not {embed!r}.")
    if not isinstance(fields, list) or not all(isinstance(field, str) and field for field in fields):
        raise SettingsError(f'{place}.fields must be a list of strings, such as ["text"], not {fields!r}.')
    if distance not in DISTANCES:
        raise SettingsError(f"{place}.distance_type must be one of {', '.join(DISTANCES)}, not {distance!r}.")
    return IndexSpec(dims, embed, tuple(fields), distance)


def _object(value: object, place: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError(f"{place} must be an object.")
    return value


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31
