"""Each mutant of the table can still be made, and names the tests that have to notice it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS
from tests.mutants.trial import ROOT, Mutant


@cache
def text(path: Path) -> str:
    return path.read_text()


def test_each_has_a_name_of_its_own() -> None:
    assert {name: times for name, times in Counter(m.name for m in MUTANTS).items() if times > 1} == {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_it_changes_is_there_once(mutant: Mutant) -> None:
    assert text(ROOT / mutant.file).count(mutant.old) == 1
    assert mutant.old != mutant.new
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists(), file
        assert not name or f"def {name.partition('[')[0]}(" in text(ROOT / file), name
