"""What `langgraph.json` says is entered around each graph that is opened: `run_context`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slackwater.errors import SettingsError


@dataclass(frozen=True, slots=True)
class RunContextSpec:
    """`run_context`: the function called `variable` in the file or module at `location`, which returns a context manager."""

    source: str
    """As it is written, for messages: `./identity.py:as_owner`."""
    location: Path | str
    """The absolute path of a file, or the dotted name of a module."""
    variable: str

    @classmethod
    def read(cls, value: object, file: Path) -> RunContextSpec | None:
        """From the value of `run_context`. Raises SettingsError."""
        if value is None:
            return None
        location, _, variable = value.rpartition(":") if isinstance(value, str) else ("", "", "")
        if not isinstance(value, str) or not location or not variable.isidentifier():
            raise SettingsError(
                f"{file}: run_context: write ./file.py:function or package.module:function, not {value!r}."
            )
        if "/" not in location and not location.endswith(".py"):
            return cls(value, location, variable)
        if not location.endswith(".py"):
            raise SettingsError(f"{file}: run_context: {location} is not a Python file.")
        return cls(value, (file.parent / location).resolve(), variable)
