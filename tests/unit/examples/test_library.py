from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def library(folder: Path):
    from digest.library import Library

    return Library(folder)


def test_texts_are_named_by_their_path_in_order_and_hidden_folders_are_left_alone(
    library, folder: Path
) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "c.txt").write_text("no")
    (folder / "picture.png").write_text("no")

    assert list(library.names(".")) == ["b.md", "deep/a.txt"]
    assert list(library.names("deep")) == ["deep/a.txt"]
    assert library.read("deep/a.txt").startswith("In 1911")


@pytest.mark.parametrize(
    "name", ["..", "../secret.txt", "/etc/passwd", "deep/../../secret.txt", "a\0b", "no.txt", "loop"]
)
def test_nothing_outside_can_be_read_and_its_existence_is_not_told(library, folder: Path, name: str) -> None:
    from digest.library import NotInLibrary

    (folder.parent / "secret.txt").write_text("secret")
    (folder / "loop").symlink_to(folder / "loop")

    for access in (library.read, lambda name: list(library.names(name))):
        with pytest.raises(NotInLibrary, match="There is no"):
            access(name)


def test_a_link_that_leads_out_is_neither_listed_nor_read(library, folder: Path) -> None:
    from digest.library import NotInLibrary

    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")

    assert "link.txt" not in list(library.names("."))
    with pytest.raises(NotInLibrary):
        library.read("link.txt")


def test_of_a_long_text_the_beginning_is_read_and_a_pipe_is_no_text(library, folder: Path) -> None:
    from digest.library import MAX_BYTES, NotInLibrary

    (folder / "long.txt").write_bytes(b"\xff" + b"x" * MAX_BYTES * 2)
    os.mkfifo(folder / "pipe.txt")

    assert len(library.read("long.txt")) == MAX_BYTES
    assert "pipe.txt" not in list(library.names("."))
    with pytest.raises(NotInLibrary):
        library.read("pipe.txt")
