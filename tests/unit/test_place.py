"""Where the databases of tests lie."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.place import PREFIX, place_of_databases


def test_what_a_killed_process_has_left_in_memory_is_removed_and_nothing_that_is_used(tmp_path: Path) -> None:
    abandoned, anothers = tmp_path / f"{PREFIX}abandoned", tmp_path / "anothers"
    abandoned.mkdir()
    anothers.mkdir()
    with place_of_databases(tmp_path, 0) as first:
        assert {first, anothers} == set(tmp_path.iterdir())
        with place_of_databases(tmp_path, 0) as second:
            assert {first, second, anothers} == set(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == [anothers]


def test_where_there_is_too_little_memory_it_is_on_a_disk(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    for memory, needed in ((tmp_path, free.f_blocks * free.f_frsize + 1), (tmp_path / "missing", 1)):
        with place_of_databases(memory, needed) as folder:
            assert folder.is_dir()
            assert folder.parent != tmp_path
        assert not folder.exists()
