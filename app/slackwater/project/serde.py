"""What `langgraph.json` says of the types in checkpoints: `checkpointer.serde`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slackwater.errors import SettingsError

_KEYS = frozenset({"allowed_msgpack_modules", "allowed_json_modules", "pickle_fallback"})


@dataclass(frozen=True, slots=True)
class SerdeSpec:
    """Which types come back from a checkpoint, besides those that are known without it."""

    msgpack: frozenset[tuple[str, ...]] | Literal[True] = frozenset()
    """`(module, name)`; True: every one, whatever it does."""
    json: frozenset[tuple[str, ...]] | Literal[True] = frozenset()
    """The same for checkpoints that older releases of LangGraph have written."""
    pickle: bool = False
    """What nothing else can store is pickled, and what is pickled is read."""

    @classmethod
    def read(cls, checkpointer: object, file: Path) -> tuple[SerdeSpec, tuple[str, ...]]:
        """From the value of `checkpointer`; and what of it has no effect, one sentence each. Raises SettingsError."""
        value = checkpointer.get("serde") if isinstance(checkpointer, dict) else None
        if not value:
            return cls(), ()
        if not isinstance(value, dict):
            raise SettingsError(f"{file}: checkpointer.serde must be an object.")
        unknown = sorted(set(value) - _KEYS)
        warnings = (f"{file}: checkpointer.serde: these keys have no effect: {', '.join(unknown)}",)
        pickle = value.get("pickle_fallback") or False
        if not isinstance(pickle, bool):
            raise SettingsError(
                f"{file}: checkpointer.serde.pickle_fallback must be true or false, not {pickle!r}."
            )
        spec = cls(
            _names(value.get("allowed_msgpack_modules"), "allowed_msgpack_modules", file),
            _names(value.get("allowed_json_modules"), "allowed_json_modules", file),
            pickle,
        )
        return spec, warnings if unknown else ()


def _names(value: object, key: str, file: Path) -> frozenset[tuple[str, ...]] | Literal[True]:
    if value is True:
        return True
    if not value:
        return frozenset()
    if not isinstance(value, list) or not all(_is_name(item) for item in value):
        raise SettingsError(
            f'{file}: checkpointer.serde.{key} must be true, or a list such as [["my_agent.models", "Plan"]].'
        )
    return frozenset(tuple(item) for item in value)


def _is_name(item: object) -> bool:
    return isinstance(item, list) and len(item) > 1 and all(isinstance(part, str) and part for part in item)
