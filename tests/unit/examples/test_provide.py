"""The npm packages of the tests: another lock's are installed before those that are there go."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import provide


@pytest.mark.parametrize("works", [True, False])
def test_what_is_there_stays_until_there_is_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    # GIVEN packages of another lock, in a folder that several checkouts share
    (tmp_path / "shared" / "npm-other").mkdir(parents=True)
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / ".test").symlink_to(tmp_path / "shared")
    monkeypatch.setattr(provide, "ROOT", tmp_path / "checkout")
    npm = tmp_path / "npm"
    npm.write_text(
        f'#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\necho "$1" > {tmp_path / "prefix"}\necho what it says\nexit {int(not works)}\n'
    )
    npm.chmod(0o755)

    provide.install_node_modules(str(npm))

    left = {path.name for path in (tmp_path / "shared").glob("npm-*")}
    assert left == {provide.node_modules().parent.name if works else "npm-other"}
    # AND npm was told of the folder itself, as it takes what a link leads to for something else
    assert Path((tmp_path / "prefix").read_text().strip()).parent == tmp_path / "shared"
