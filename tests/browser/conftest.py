"""A browser, the page that it shows, and servers that are stopped under it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drills.conftest import drill
from tests.support.browser import Chromium, build_page, served

__all__ = ["drill"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def page_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where the page is served, on loopback."""
    folder = tmp_path_factory.mktemp("page")
    build_page(folder)
    with served(folder) as port:
        yield port
