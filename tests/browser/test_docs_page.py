"""`/docs` in a browser: it shows every operation and tries them, and asks nobody but the server for anything."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scripts import provide, swagger_ui
from slackwater.api.system import docs
from tests.support.browser import Chromium, needed
from tests.support.server import fleet_of

pytestmark = pytest.mark.drill

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
graph = StateGraph(TypedDict("State", {"text": str})).add_node("node", print).add_edge(START, "node")
"""


@pytest.mark.parametrize("prefix", ["", "/agents"], ids=["root", "prefix"])
async def test_the_page_works_with_nothing_from_elsewhere(
    database_uri: str, tmp_path: Path, chromium: Chromium, prefix: str
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "agent.py").write_text(GRAPH)
    (project / "langgraph.json").write_text('{"graphs": {"agent": "./agent.py:graph"}}')
    env = {"SLACKWATER_MOUNT_PREFIX": prefix} if prefix else {}
    async with fleet_of(database_uri, tmp_path, project, env) as fleet:
        (server,) = await fleet.start()
        page = chromium.page()
        # WHEN a person opens it, and tries an operation out
        await page.call("goto", f"{server.url}{prefix}/docs")
        # Not `until`, whose expression the page's policy does not let anybody run.
        for path in ("/threads/{thread_id}/runs/stream", "/store/items", "/health"):
            await page.call("waitForSelector", f".opblock-summary-path[data-path='{path}']")
        health = ".opblock:has(.opblock-summary-path[data-path='/health'])"
        await page.call("click", f"{health} .opblock-summary-control")
        await page.call("click", f"{health} .try-out__btn")
        await page.call("click", f"{health} .execute")
        await page.call("waitForSelector", f"{health} .live-responses-table :text('alive')")
        # THEN nothing was asked for elsewhere, and nothing was not allowed
        asked = [urlsplit(url) for url in await page.requests()]
        assert {url.netloc for url in asked if url.scheme != "data"} == {urlsplit(server.url).netloc}
        assert f"{prefix}/docs/swagger-ui-bundle.js" in {url.path for url in asked}
        assert await page.complaints() == []
        assert await page.problems() == []


def test_its_files_are_those_that_the_lock_pins() -> None:
    package = needed(provide.node_modules(), "the npm packages of tests/browser")
    for name, content in swagger_ui.contents(Path(package) / "swagger-ui-dist").items():
        assert (swagger_ui.FOLDER / name).read_bytes() == content, f"{name}: python3 scripts/swagger_ui.py"
    lock = (provide.PACKAGES / "package.json").read_text()
    assert f'"swagger-ui-dist": "{docs.VERSION}"' in lock
