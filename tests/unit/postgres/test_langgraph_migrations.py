"""What a start believes of LangGraph's migrations without asking it."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from slackwater.postgres import langgraph_migrations


def test_what_is_known_of_the_installed_version_is_what_it_says_itself() -> None:
    """A new version goes into `KNOWN`, in place of the old one: without it every cold start imports LangGraph."""
    assert (
        langgraph_migrations.KNOWN[version(langgraph_migrations.PACKAGE)]
        == langgraph_migrations.ask_langgraph()
    )


def test_a_version_that_is_not_known_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(langgraph_migrations, "KNOWN", {})

    assert langgraph_migrations.last_migrations() == langgraph_migrations.ask_langgraph()
