"""What a project's `langgraph.json` says: which graphs there are, and what must be in place to import them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from dotenv import dotenv_values

from slackwater.errors import SettingsError
from slackwater.project.auth import AuthSpec
from slackwater.project.gateway import GatewaySpec
from slackwater.project.http import HttpSpec
from slackwater.project.run_context import RunContextSpec
from slackwater.project.serde import SerdeSpec
from slackwater.project.store import StoreSpec
from slackwater.project.ttl import TtlPolicy

FILE_NAME = "langgraph.json"

_READ = frozenset(
    {
        "graphs",
        "dependencies",
        "env",
        "store",
        "webhooks",
        "checkpointer",
        "http",
        "auth",
        "gateway",
        "run_context",
    }
)
_BUILD_TIME = frozenset(
    {
        "$schema",
        "api_version",
        "base_image",
        "dockerfile_lines",
        "image_distro",
        "keep_pkg_tools",
        "node_version",
        "pip_config_file",
        "pip_installer",
        "python_version",
        "source",
    }
)
"""Keys that only matter while an image is built."""

_REFUSED = {
    # Serving without what these ask for would leave open, or readable, what their author wanted closed.
    "encryption": "encryption of stored data is not supported yet: remove the key to store plain JSON",
}


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """One entry of `graphs`: the value called `variable` in the file or module at `location`."""

    id: str
    source: str
    """As it is written, for messages: `./agent.py:graph`."""
    location: Path | str
    """The absolute path of a file, or the dotted name of a module."""
    variable: str
    description: str | None


@dataclass(frozen=True, slots=True)
class Project:
    """A `langgraph.json` that was read and makes sense. Nothing is imported or changed yet."""

    root: Path
    graphs: tuple[GraphSpec, ...]
    """In the file's order, at least one."""
    paths: tuple[Path, ...]
    """Folders from which the graphs' modules import; the project's own first."""
    environment: Mapping[str, str]
    warnings: tuple[str, ...]
    """What the file asks for and does not get, one sentence each."""
    store: StoreSpec = field(default_factory=StoreSpec)
    webhooks: object = None
    """The value of `webhooks`; app/slackwater/webhooks/policy.py reads it."""
    thread_ttl: TtlPolicy = field(default_factory=TtlPolicy)
    http: HttpSpec = field(default_factory=HttpSpec)
    serde: SerdeSpec = field(default_factory=SerdeSpec)
    auth: AuthSpec | None = None
    gateway: GatewaySpec = field(default_factory=GatewaySpec)
    run_context: RunContextSpec | None = None

    @classmethod
    def read(cls, path: Path) -> Project:
        """Read `path`, which is the file or its folder. Raises SettingsError, which says what to change."""
        file = (path if path.is_file() else path / FILE_NAME).resolve()
        content = _read_object(file)
        for key, sentence in _REFUSED.items():
            if content.get(key):
                raise SettingsError(f"{file}: {key}: {sentence}.")
        root = file.parent
        environment, warnings = _environment(content.get("env"), root)
        ignored = sorted(key for key in content if content[key] and key not in _READ | _BUILD_TIME)
        if ignored:
            warnings = (*warnings, f"{file}: these keys have no effect: {', '.join(ignored)}")
        store = StoreSpec.read(content.get("store"), file)
        graphs, paths = _graphs(content.get("graphs"), root), _paths(content, root)
        thread_ttl, more = TtlPolicy.read(content.get("checkpointer"), file)
        serde, no_effect = SerdeSpec.read(content.get("checkpointer"), file)
        http, unknown = HttpSpec.read(content.get("http"), file)
        auth, unused = AuthSpec.read(content.get("auth"), file)
        return cls(
            root,
            graphs,
            paths,
            environment,
            (*warnings, *more, *no_effect, *unknown, *unused),
            store,
            content.get("webhooks"),
            thread_ttl,
            http,
            serde,
            auth,
            GatewaySpec.read(content.get("gateway"), file),
            RunContextSpec.read(content.get("run_context"), file),
        )

    def activate(self) -> None:
        """Let the graphs import: put the folders first on `sys.path`, and the variables into the environment.

        The real environment wins over the project's.
        """
        folders = [str(path) for path in self.paths]
        # Also those that are on it already: what is before them, such as the folder that a server was started in, may
        # have modules of the same names.
        sys.path[:] = [*folders, *(entry for entry in sys.path if entry not in folders)]
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)


def store_of(path: Path) -> StoreSpec:
    """What the project at `path` says of the store; nothing if there is no project. Raises SettingsError."""
    file = path if path.is_file() else path / FILE_NAME
    return StoreSpec.read(_read_object(file).get("store"), file) if file.is_file() else StoreSpec()


def has_auth(path: Path) -> bool:
    """Whether the project at `path` has an `auth` of its own; no if there is no project. Raises SettingsError."""
    file = path if path.is_file() else path / FILE_NAME
    return file.is_file() and bool(_read_object(file).get("auth"))


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        raise SettingsError(
            f"There is no {FILE_NAME} in {file.parent}: give the project's folder with --project."
        ) from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"{file}, line {error.lineno}, column {error.colno}: {error.msg}.") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{file} must contain an object with the key graphs.")
    return content


def _graphs(value: object, root: Path) -> tuple[GraphSpec, ...]:
    if not isinstance(value, dict) or not value:
        raise SettingsError(
            f'{root / FILE_NAME}: graphs must contain at least one graph, such as {{"agent": "./agent.py:graph"}}.'
        )
    return tuple(_graph(graph_id, entry, root) for graph_id, entry in value.items())


def _graph(graph_id: str, entry: object, root: Path) -> GraphSpec:
    fields = entry if isinstance(entry, dict) else {"path": entry}
    source, description = fields.get("path"), fields.get("description")
    location, _, variable = source.rpartition(":") if isinstance(source, str) else ("", "", "")
    if not isinstance(source, str) or not location or not variable.isidentifier():
        raise SettingsError(
            f"{root / FILE_NAME}: graph {graph_id!r}: write ./file.py:variable or package.module:variable, "
            f"not {source!r}."
        )
    if description is not None and not isinstance(description, str):
        raise SettingsError(f"{root / FILE_NAME}: graph {graph_id!r}: the description must be a string.")
    if "/" not in location and not location.endswith(".py"):
        return GraphSpec(graph_id, source, location, variable, description)
    if not location.endswith(".py"):
        raise SettingsError(f"{root / FILE_NAME}: graph {graph_id!r}: {location} is not a Python file.")
    return GraphSpec(graph_id, source, (root / location).resolve(), variable, description)


def _paths(content: Mapping[str, Any], root: Path) -> tuple[Path, ...]:
    dependencies = content.get("dependencies") or []
    if not isinstance(dependencies, list) or not all(isinstance(item, str) for item in dependencies):
        raise SettingsError(f'{root / FILE_NAME}: dependencies must be a list of strings, such as ["."].')
    folders = [root]
    for dependency in dependencies:
        folder = (root / dependency).resolve()
        if folder.is_dir():
            folders.append(folder)
        elif dependency.startswith("."):
            raise SettingsError(f"{root / FILE_NAME}: dependencies: there is no folder {dependency}.")
        # Anything else is the name of an installed package.
    sources = [folder / "src" for folder in folders if (folder / "src").is_dir()]
    return tuple(dict.fromkeys([*folders, *sources]))


def _environment(value: object, root: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables of `env`, and warnings."""
    if not value:
        return {}, ()
    if isinstance(value, str):
        file = root / value
        if not file.is_file():
            # Usual where it is deployed: the file stays at home and the platform sets the variables.
            return {}, (f"{root / FILE_NAME}: env: there is no file {value}",)
        return {name: text for name, text in dotenv_values(file).items() if text is not None}, ()
    if isinstance(value, dict) and all(isinstance(item, str | int | float) for item in value.values()):
        return {name: _text(item) for name, item in value.items()}, ()
    raise SettingsError(f"{root / FILE_NAME}: env must be the path of a .env file, or an object of strings.")


def _text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
