"""uv.lock: it is what pyproject.toml asks for, and everything that is installed from it is checked against its hashes."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet


def declared() -> dict[str, Any]:
    import bootstrap

    return tomllib.loads((bootstrap.ROOT / "pyproject.toml").read_text())


def everything() -> list[str]:
    """What pyproject.toml asks for, in all its groups and extras, and to be built."""
    import bootstrap

    project = declared()["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    return [
        *(*project["dependencies"], *extras, *bootstrap._requirements(("dev",))),
        *declared()["build-system"]["requires"],
    ]


def parts(line: str) -> tuple[Requirement, list[str]]:
    requirement, *hashes = line.split(" --hash=")
    return Requirement(requirement), hashes


def shape(requirement: Requirement) -> tuple[str, frozenset[str], SpecifierSet]:
    import lock

    return lock.normal(requirement.name), frozenset(requirement.extras), requirement.specifier


def of_lock(entries: list[dict[str, Any]]) -> Iterator[tuple[str, frozenset[str], SpecifierSet]]:
    for entry in entries:
        yield entry["name"], frozenset(entry.get("extras", ())), SpecifierSet(entry.get("specifier", ""))


def test_the_lock_is_of_this_pyproject() -> None:
    """What `uv lock --check` would say, which nobody needs uv for."""
    import bootstrap
    import lock

    content = tomllib.loads(lock.FILE.read_text())
    (own,) = [each for each in content["package"] if each["name"] == "slackwater"]
    project, groups = declared()["project"], declared()["dependency-groups"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]

    assert SpecifierSet(content["requires-python"]) == SpecifierSet(project["requires-python"])
    assert set(of_lock(own["metadata"]["requires-dist"])) == {
        shape(Requirement(text)) for text in [*project["dependencies"], *extras]
    }
    assert set(own["metadata"]["requires-dev"]) == set(groups)
    for group in groups:
        wanted = {shape(Requirement(text)) for text in bootstrap._requirements((group,))}
        assert set(of_lock(own["metadata"]["requires-dev"][group])) == wanted, group


def test_every_package_has_a_version_and_hashes() -> None:
    import lock

    lines = [parts(line) for line in lock.hashed(everything())]

    assert len(lines) > 100
    for requirement, hashes in lines:
        assert re.fullmatch(r"==[\w.+!]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


def test_nothing_is_missing_that_something_needs() -> None:
    """As pip installs no more than the lines say. What is installed here says what it needs."""
    import lock

    lines = [parts(line)[0] for line in lock.hashed(everything())]
    chosen = {lock.normal(line.name) for line in lines if line.marker is None or line.marker.evaluate()}
    installed = {lock.normal(each.name): each.requires or [] for each in distributions()}
    missing = [
        f"{name} needs {text}"
        for name in chosen & installed.keys()
        for text in installed[name]
        if (needed := Requirement(text)).marker is None or needed.marker.evaluate({"extra": ""})
        if lock.normal(needed.name) not in chosen
    ]

    assert len(chosen & installed.keys()) > 100
    assert missing == []


def test_only_what_is_asked_for_is_there() -> None:
    import lock

    assert [parts(line)[0].name for line in lock.hashed(["cronsim>=2"])] == ["cronsim"]
    (named,) = [line for line in lock.hashed(["psycopg[binary]"]) if line.startswith("psycopg-binary==")]
    assert "implementation_name != 'pypy'" in named
    assert not [line for line in lock.hashed(["psycopg"]) if line.startswith("psycopg-binary==")]


def test_a_version_for_some_pythons_only_is_for_those() -> None:
    import lock

    found = [parts(line)[0] for line in lock.hashed(["cfn-lint"]) if line.startswith("networkx==")]
    for python in ("3.11.7", "3.13.1"):
        assert (
            sum(each.marker.evaluate({"python_full_version": python}) for each in found if each.marker) == 1
        )


def test_what_is_not_locked_is_refused_with_a_sentence() -> None:
    import lock

    with pytest.raises(lock.NotLocked, match=r"toolz: uv\.lock does not have the package: run `uv lock`"):
        lock.hashed(["toolz>=1"])


def test_an_environment_is_made_by_hash_and_the_project_built_by_what_is_in_it(tmp_path: Path) -> None:
    import bootstrap

    log = tmp_path / "setup.log"
    bootstrap._install([sys.executable, "-c", "import sys; print(*sys.argv[1:])"], tmp_path, (), log)

    (packages, project) = [line for line in log.read_text().splitlines() if line.startswith("install ")]
    assert f"--no-deps --require-hashes -r {tmp_path / 'requirements.txt'}" in packages
    assert "--no-deps --no-build-isolation -e" in project
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert all(" --hash=sha256:" in line for line in lines)
    assert {"fastapi", "hatchling"} <= {line.partition("==")[0] for line in lines}


def test_a_build_takes_no_other_file_than_the_locked_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import lock
    import package

    target = package.Target(
        ".".join(map(str, sys.version_info[:2])), package._parser().get_default("architecture")
    )
    target.install(sys.executable, tmp_path / "right", ["cronsim"], [])
    assert (tmp_path / "right" / "cronsim").is_dir()

    # WHEN an index has other files under that version than whoever locked it has seen
    (tmp_path / "uv.lock").write_text(
        re.sub(r"(cronsim-[^\n]+sha256:)[0-9a-f]{64}", rf"\g<1>{'0' * 64}", lock.FILE.read_text())
    )
    monkeypatch.setattr(lock, "FILE", tmp_path / "uv.lock")
    with pytest.raises(SystemExit, match="pip could not install the dependencies"):
        target.install(sys.executable, tmp_path / "wrong", ["cronsim"], [])

    assert not (tmp_path / "wrong" / "cronsim").exists()
    assert "HASH" in capfd.readouterr().err.upper()
