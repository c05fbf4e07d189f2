"""The wheel and the sdist: what is in them, and that they serve a project from an environment that has nothing else of ours."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

from slackwater import __version__
from tests.deployment.templates import ROOT
from tests.support import namesakes
from tests.support.namesakes import Place

PACKAGES = (ROOT / "app" / "slackwater", ROOT / "handler" / "slackwater_lambda")
INSTALLED = [path for path in sys.path if Path(path).name == "site-packages"]


def run(*command: object, folder: Path) -> str:
    """The output of a program that sees nothing of the repository but what it is told."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, folder=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"slackwater-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    return built / f"slackwater-{__version__}.tar.gz"


# What is in them


def test_the_wheel_has_both_packages_whole_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}

    assert names == {
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name.partition("/")[0] for name in names} == {"slackwater", "slackwater_lambda"}


def test_the_sdist_has_the_sources_and_what_describes_them(sdist: Path) -> None:
    with tarfile.open(sdist) as content:
        names = {name.partition("/")[2] for name in content.getnames()}

    assert {name.partition("/")[0] for name in names} == {
        *("app", "handler", "docs", "examples"),
        *("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"),
    }
    assert {"app/slackwater/py.typed", "handler/slackwater_lambda/bootstrap.sh"} <= names
    assert not [name for name in names if "/out/" in name or name.endswith((".pyc", "/.env"))]


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as content:
        return message_from_bytes(content.read(f"slackwater-{__version__}.dist-info/METADATA"))


def test_the_metadata_says_where_things_are_and_what_may_be_added(wheel: Path) -> None:
    found = metadata(wheel)

    assert {url.partition(",")[0] for url in found.get_all("Project-URL", [])} == {
        *("Homepage", "Documentation", "Changelog", "Issues"),
    }
    assert set(found.get_all("Provides-Extra", [])) == {
        *("documents", "emulator", "mcp-tools", "models", "prices", "tracing"),
    }
    assert found["License-Expression"] == "Apache-2.0"
    assert "Typing :: Typed" in found.get_all("Classifier", [])
    assert "langgraph" in found["Keywords"].split(",")


def test_the_version_is_said_once_and_the_changelog_begins_with_its_release(wheel: Path) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    releases = re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)

    assert metadata(wheel)["Version"] == __version__
    assert "version" not in declared
    assert releases[0] == __version__


# Where they are installed


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The programs of an environment with what Slackwater needs, and without Slackwater."""
    folder = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=tmp_path)
    # As paths: what these folders add to the path themselves, such as an editable Slackwater, stays out.
    (site_of(folder) / "installed.pth").write_text("\n".join(INSTALLED))
    return folder / "bin"


def site_of(environment: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return environment / "lib" / version / "site-packages"


def pip(environment: Path, *arguments: object, folder: Path) -> None:
    """Install without an index: what is needed is there, the build's tools included."""
    import package

    options = ("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", "--quiet")
    run(*package._pip(str(environment / "python")), *arguments, *options, folder=folder)


def readme_line() -> str:
    """The line of the README by which it is installed."""
    [line] = re.findall(r"^pip (install .*)$", (ROOT / "README.md").read_text(), re.M)
    return str(line)


@pytest.mark.parametrize("what", ["wheel", "sdist", "README"])
async def test_what_is_installed_serves_a_project_with_packages_of_any_names(
    what: str, environment: Path, wheel: Path, sdist: Path, tmp_path: Path, database_uri: str
) -> None:
    # GIVEN an empty environment beside such a project
    place = Place(tmp_path / "place", database_uri)

    # WHEN it is installed from outside of the checkout, and started in the project's folder
    line = readme_line().replace("path/to/slackwater", str(ROOT))
    words = {"wheel": f"install {wheel}", "sdist": f"install {sdist}", "README": line}
    pip(environment, *shlex.split(words[what]), folder=place.elsewhere)
    found = await place.served(
        "slackwater serve --port {port}", place.project, programs=environment, sources=False
    )

    # THEN that serves it, whole
    site = site_of(environment.parent)
    assert found == namesakes.own(place.project, site)
    assert os.access(site / "slackwater_lambda" / "bootstrap.sh", os.X_OK)
    assert (site / "slackwater" / "py.typed").is_file()
