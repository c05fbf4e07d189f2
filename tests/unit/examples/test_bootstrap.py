"""The set-up of the demo and of the tests; that it works end to end is seen whenever they run."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement


def test_the_lock_has_a_version_for_everything_that_the_project_asks_for() -> None:
    import bootstrap

    pinned = dict(line.split("==") for line in bootstrap.locked())
    project = tomllib.loads((bootstrap.ROOT / "pyproject.toml").read_text())["project"]

    for text in [*project["dependencies"], *bootstrap._requirements(("dev",))]:
        wanted = Requirement(text)
        assert wanted.name in pinned, f"{wanted.name} is not in uv.lock: run `uv lock`"
        assert pinned[wanted.name] in wanted.specifier, f"uv.lock has another {wanted.name}: run `uv lock`"


def test_a_group_brings_the_groups_that_it_includes() -> None:
    import bootstrap

    assert set(bootstrap._requirements(("dev",))) == set(bootstrap._requirements(("test", "aws", "lint")))


def test_an_environment_is_made_again_only_when_what_decides_its_contents_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bootstrap

    made: list[tuple[str, ...]] = []

    def create(folder: Path, python: Path, log: Path) -> list[str]:
        python.parent.mkdir(parents=True)
        python.touch()
        return ["pip"]

    monkeypatch.setattr(bootstrap, "_create", create)
    monkeypatch.setattr(bootstrap, "_quiet", lambda command, log: True)  # compiles
    monkeypatch.setattr(bootstrap, "_install", lambda pip, folder, groups, log: made.append(groups))

    for groups in ((), (), ("test",), ("test",)):
        assert bootstrap.environment(tmp_path / "home" / "venv", groups) == tmp_path / "home/venv/bin/python"

    assert made == [(), ("test",)]
    assert (tmp_path / "home" / ".gitignore").read_text() == "*\n"
    assert capsys.readouterr().out.count("Set up in") == 2


def test_when_pip_fails_its_last_lines_and_its_log_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import bootstrap

    log = tmp_path / "setup.log"
    pip = [
        sys.executable,
        "-c",
        "print('Collecting x'); print('ERROR: no such package'); raise SystemExit(1)",
    ]

    with pytest.raises(
        SystemExit, match=r"ERROR: no such package\n\npip could not install the packages.*setup\.log"
    ):
        bootstrap._install(pip, tmp_path, (), log)


def test_an_old_python_reads_it_far_enough_to_say_that_it_is_too_old() -> None:
    import bootstrap

    code = "import sys; sys.version_info = (3, 9); import bootstrap; bootstrap.need_python()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/nowhere", "PYTHONPATH": str(bootstrap.ROOT / "scripts")},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("This needs Python 3.11 or newer, and ")
