"""Tests without a deadline leave the processor to those that have one."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import NICENESS, PRIORITY, may_be_less_nice

NICE = ["nice"]
"""Prints the priority that it runs at."""


def priority_of_a_process() -> int:
    return int(subprocess.run(NICE, capture_output=True, check=True).stdout)


@pytest.mark.patient
@pytest.mark.skipif(not may_be_less_nice(), reason="this process may not take it back")
def test_what_a_patient_test_starts_comes_last() -> None:
    assert priority_of_a_process() == PRIORITY + NICENESS["patient"]


def test_what_any_other_test_starts_does_not() -> None:
    assert priority_of_a_process() == PRIORITY
