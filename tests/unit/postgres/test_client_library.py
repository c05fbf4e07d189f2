"""What a start believes of LangGraph's migrations without asking it."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from slackwater.postgres import library


def test_what_is_known_of_the_installed_version_is_what_it_says_itself() -> None:
    """A new version goes into `KNOWN`, in place of the old one: without it every cold start imports LangGraph."""
    assert library.KNOWN[version(library.PACKAGE)] == library.ask_langgraph()


def test_a_version_that_is_not_known_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "KNOWN", {})

    assert library.last_migrations() == library.ask_langgraph()
