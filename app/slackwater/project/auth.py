"""What `langgraph.json` says of who may call: `auth`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slackwater.errors import SettingsError

_READ = frozenset({"path", "openapi", "disable_studio_auth"})
_OPENAPI = frozenset({"securitySchemes", "security", "paths"})


@dataclass(frozen=True, slots=True)
class AuthSpec:
    """`auth`: the `langgraph_sdk.Auth` called `variable` in the file or module at `location`."""

    source: str
    """As it is written, for messages: `./auth.py:auth`."""
    location: Path | str
    """The absolute path of a file, or the dotted name of a module."""
    variable: str
    openapi: Mapping[str, Any] = field(default_factory=dict)
    """`securitySchemes`, `security` and `paths` for the OpenAPI document."""

    @classmethod
    def read(cls, value: object, file: Path) -> tuple[AuthSpec | None, tuple[str, ...]]:
        """From the value of `auth`; and what of it has no effect, one sentence each. Raises SettingsError."""
        if not value:
            return None, ()
        if not isinstance(value, dict):
            raise SettingsError(f'{file}: auth must be an object, such as {{"path": "./auth.py:auth"}}.')
        path = value.get("path")
        location, _, variable = path.rpartition(":") if isinstance(path, str) else ("", "", "")
        if not isinstance(path, str) or not location or not variable.isidentifier():
            raise SettingsError(
                f"{file}: auth.path: write ./file.py:variable or package.module:variable, not {path!r}."
            )
        is_file = "/" in location or location.endswith(".py")
        if is_file and not location.endswith(".py"):
            raise SettingsError(f"{file}: auth.path: {location} is not a Python file.")
        openapi = value.get("openapi") or {}
        if not isinstance(openapi, dict) or not set(openapi) <= _OPENAPI:
            raise SettingsError(f"{file}: auth.openapi must be an object with {', '.join(sorted(_OPENAPI))}.")
        ignored = sorted(str(key) for key in value if value[key] and key not in _READ)
        warnings = [f"{file}: auth: these keys have no effect: {', '.join(ignored)}"] if ignored else []
        if value.get("disable_studio_auth") is False:
            warnings.append(f"{file}: auth: Studio is let in by authenticate only, as everybody is")
        where = (file.parent / location).resolve() if is_file else location
        return cls(path, where, variable, openapi), tuple(warnings)
