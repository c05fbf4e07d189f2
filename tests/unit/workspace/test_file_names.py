"""What uploads may be called."""

from __future__ import annotations

import pytest

from slackwater.workspace.files.names import LONGEST, name_of, unique


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("folder/a.txt", "a.txt"),
        ("Screenshot 2025-11-28 at 4.09.50\u202fPM.png", "Screenshot 2025-11-28 at 4.09.50\u202fPM.png"),
        ("prix\u00a0: 5\u00a0€.csv", "prix\u00a0: 5\u00a0€.csv"),
        ("\U000f0000.txt", "\U000f0000.txt"),
        ("a\u202etxt.exe", None),  # shown as `aexe.txt`
        ("a\nb", None),
        ("\x1b[2J", None),
        ("a\\b", None),
        ("..", None),
        ("", None),
        ("ä" * 128, None),
    ],
)
def test_names(raw: str, name: str | None) -> None:
    assert name_of(raw) == name


@pytest.mark.parametrize("name", ["a." + "b" * 253, "." + "b" * 254, "ä" * 125 + ".docx", "b" * 255])
def test_another_name_is_no_longer_than_a_name_may_be(name: str) -> None:
    taken = {name}
    for _ in range(12):
        found = unique(name, taken)
        assert found not in taken
        assert len(found.encode()) <= LONGEST
        taken.add(found)
