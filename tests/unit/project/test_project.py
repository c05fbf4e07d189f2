from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from slackwater.errors import ExitCode, SettingsError
from slackwater.project.project import GraphSpec, Project
from slackwater.project.serde import SerdeSpec

GRAPHS = {"agent": "./agent.py:graph"}


def write(folder: Path, **content: Any) -> Path:
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        Project.read(folder)
    assert caught.value.exit_code == ExitCode.SETTINGS
    return caught.value.message


def test_graphs_are_files_or_modules_and_keep_their_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        graphs={
            "z": "./src/agent.py:graph",
            "module": "pkg.mod:make",
            "described": {"path": "../shared/flow.py:flow", "description": "Flows."},
            "bare": "agent.py:graph",
        },
    )

    assert Project.read(tmp_path).graphs == (
        GraphSpec("z", "./src/agent.py:graph", tmp_path / "src/agent.py", "graph", None),
        GraphSpec("module", "pkg.mod:make", "pkg.mod", "make", None),
        GraphSpec(
            "described", "../shared/flow.py:flow", tmp_path.parent / "shared/flow.py", "flow", "Flows."
        ),
        GraphSpec("bare", "agent.py:graph", tmp_path / "agent.py", "graph", None),
    )


def test_the_file_itself_may_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    write(tmp_path, graphs=GRAPHS)
    (tmp_path / "langgraph.json").rename(tmp_path / "other.json")

    assert Project.read(tmp_path / "other.json").root == tmp_path


def test_local_dependencies_and_src_folders_are_import_paths_and_package_names_are_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "libs/tools/src").mkdir(parents=True)
    write(tmp_path, graphs=GRAPHS, dependencies=[".", "./libs/tools", "langchain_openai", "httpx>=0.27"])

    assert Project.read(tmp_path).paths == (
        tmp_path,
        tmp_path / "libs/tools",
        tmp_path / "src",
        tmp_path / "libs/tools/src",
    )


def test_the_projects_environment_does_not_override_the_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PROJECT_A", "real")
    monkeypatch.setenv("PROJECT_B", "")
    monkeypatch.delenv("PROJECT_B")
    write(tmp_path, graphs=GRAPHS, env={"PROJECT_A": "file", "PROJECT_B": 7})

    # WHEN
    Project.read(tmp_path).activate()

    # THEN
    assert (os.environ["PROJECT_A"], os.environ["PROJECT_B"]) == ("real", "7")
    assert sys.path[0] == str(tmp_path)


def test_a_projects_folders_come_first_whatever_is_on_the_path_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a path that has the project behind the folder of somebody else, and one of its folders twice
    (tmp_path / "libs").mkdir()
    (tmp_path / "src").mkdir()
    elsewhere, root, libs = (str(tmp_path / name) for name in ("elsewhere", "", "libs"))
    monkeypatch.setattr(sys, "path", [elsewhere, libs, root, libs])
    write(tmp_path, graphs=GRAPHS, dependencies=["./libs"])

    # WHEN it is activated, twice
    for _ in range(2):
        Project.read(tmp_path).activate()

    # THEN it is before them, its own folder first
    assert sys.path == [root, libs, str(tmp_path / "src"), elsewhere]


def test_env_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# keys\nexport KEY='a b'\nEMPTY=\nBARE\n")
    write(tmp_path, graphs=GRAPHS, env=".env")

    project = Project.read(tmp_path)

    assert project.environment == {"KEY": "a b", "EMPTY": ""}
    assert project.warnings == ()


def test_a_missing_env_file_is_only_a_warning_since_platforms_set_variables_themselves(
    tmp_path: Path,
) -> None:
    write(tmp_path, graphs=GRAPHS, env=".env")

    (warning,) = Project.read(tmp_path).warnings

    assert "there is no file .env" in warning


def test_keys_without_effect_are_named_in_a_warning(tmp_path: Path) -> None:
    write(tmp_path, graphs=GRAPHS, python_version="3.12", store={}, ui={"agent": "./ui.tsx"}, colour="blue")

    (warning,) = Project.read(tmp_path).warnings

    assert warning.endswith("these keys have no effect: colour, ui")


def test_what_may_come_back_from_checkpoints(tmp_path: Path) -> None:
    serde = {"allowed_msgpack_modules": [["my.models", "Plan"]], "allowed_json_modules": True, "pickle": 1}
    write(tmp_path, graphs=GRAPHS, checkpointer={"serde": serde, "ttl": {"default_ttl": 1}})

    project = Project.read(tmp_path)

    assert project.serde == SerdeSpec(frozenset({("my.models", "Plan")}), True, False)
    (warning,) = project.warnings
    assert warning.endswith("checkpointer.serde: these keys have no effect: pickle")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"auth": {"path": "./auth.py"}}, "auth.path: write ./file.py:variable"),
        ({"auth": "./auth.py:auth"}, "auth must be an object"),
        ({"auth": {"path": "a:auth", "openapi": {"info": {}}}}, "auth.openapi must be an object with"),
        ({"encryption": {"path": "./e.py:e"}}, "encryption: encryption of stored data is not supported yet"),
        ({"graphs": {}}, "graphs must contain at least one graph"),
        ({"graphs": ["./agent.py:graph"]}, "graphs must contain at least one graph"),
        ({"graphs": {"agent": "./agent.py"}}, "graph 'agent': write ./file.py:variable"),
        ({"graphs": {"agent": "./agent.py:"}}, "graph 'agent': write ./file.py:variable"),
        ({"graphs": {"agent": 7}}, "not 7"),
        ({"graphs": {"agent": "./src/agent.ts:graph"}}, "./src/agent.ts is not a Python file"),
        ({"graphs": {"agent": {"path": "a:b", "description": 1}}}, "the description must be a string"),
        ({"dependencies": "."}, "dependencies must be a list"),
        ({"dependencies": ["./gone"]}, "there is no folder ./gone"),
        ({"env": ["A=1"]}, "env must be the path of a .env file"),
        ({"env": {"A": None}}, "env must be the path of a .env file"),
        ({"checkpointer": {"serde": ["a"]}}, "checkpointer.serde must be an object"),
        (
            {"checkpointer": {"serde": {"allowed_msgpack_modules": ["my.models"]}}},
            'checkpointer.serde.allowed_msgpack_modules must be true, or a list such as [["my_agent.models", "Plan"]]',
        ),
        ({"checkpointer": {"serde": {"pickle_fallback": "no"}}}, "pickle_fallback must be true or false"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_a_sentence(
    tmp_path: Path, content: dict[str, Any], sentence: str
) -> None:
    write(tmp_path, **{"graphs": GRAPHS, **content})

    message = refused(tmp_path)

    assert sentence in message
    assert str(tmp_path) in message


def test_a_missing_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert refused(tmp_path) == (
        f"There is no langgraph.json in {tmp_path}: give the project's folder with --project."
    )


@pytest.mark.parametrize(
    ("text", "sentence"), [('{"graphs":\n nope}', "line 2"), ("[]", "must contain an object")]
)
def test_a_file_that_is_not_an_object_is_refused_with_the_place(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "langgraph.json").write_text(text)

    assert sentence in refused(tmp_path)
