"""The official in-memory server and ours are asked the same, side by side, and have to answer the same.

The official one is installed into `.test/peer` and runs in a process of its own. What is meant to be different is in
`meant.py`, by the lines of docs/compatibility.md; anything else fails, and so does what is meant but no longer so.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.differential.deliberate import Deliberate, explained
from tests.differential.meant import DELIBERATE, MEANT, USERS
from tests.differential.routes import uncalled, wanted
from tests.differential.scenario import Played, play_all
from tests.differential.scenarios import all_scenarios
from tests.support.peer import launch
from tests.support.server import ROOT, fleet_of

PROJECT = Path(__file__).parent / "project"
GUARDED = Path(__file__).parent / "guarded"
GRAPHS = ROOT / "tests" / "graphs" / "graphs.py"
JOBS = 40
"""Runs at a time in the official server, whose own default is one: all scenarios are played at once."""


@dataclass(frozen=True)
class Both:
    """Where the two servers are."""

    official: str
    ours: str


@asynccontextmanager
async def both_with(
    project: Path, database_uri: str, folder: Path, tolerated: tuple[str, ...]
) -> AsyncIterator[Both]:
    """Both servers, with the same project. `tolerated`: what our log may say."""
    env = {
        "SLACKWATER_GRACE_SECONDS": "25",
        "SLACKWATER_LEASE_SECONDS": "30",
        "SLACKWATER_POOL_MAX_SIZE": "20",
    }
    peer = await asyncio.to_thread(launch, project, folder, jobs=JOBS)
    try:
        async with fleet_of(database_uri, folder, project, env) as fleet:
            (server,) = await fleet.start(tolerated=tolerated)
            await asyncio.to_thread(peer.until_ready)
            yield Both(peer.url, server.url)
            assert not fleet.complaints
    finally:
        await asyncio.to_thread(peer.stop)


@pytest.mark.drill
async def test_both_servers_answer_the_same(database_uri: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(GRAPHS, project)
    # Its graph `fail` is there to fail.
    async with both_with(project, database_uri, tmp_path, ("Traceback",)) as both:
        # WHEN every scenario is played on both
        played = await play_all(all_scenarios(), both.official, both.ours)
        document = await _document(both.official)
    # THEN they answer the same, but for what is meant
    same(played, DELIBERATE, DELIBERATE)
    # AND no route was forgotten
    called = {call for one in played for call in one.called}
    assert not uncalled(wanted(document), called)


@pytest.mark.drill
async def test_both_servers_treat_users_the_same(database_uri: str, tmp_path: Path) -> None:
    """Of a project with one `Auth` object that has handlers at every level, and every kind of answer."""
    project = tmp_path / "project"
    shutil.copytree(GUARDED, project, ignore=shutil.ignore_patterns("__pycache__"))
    # Handlers that break are logged with what they raised.
    async with both_with(project, database_uri, tmp_path, ("Traceback", '"level":"ERROR"')) as both:
        played = await play_all(all_scenarios("guarded"), both.official, both.ours)
    same(played, MEANT["guarded"], USERS)


def same(played: list[Played], meant: Iterable[Deliberate], must_occur: Collection[Deliberate]) -> None:
    """All came to their end; what differs is meant to, and what is meant to differ does."""
    assert not [text for one in played for text in one.broken]
    found = [difference for one in played for difference in one.differences]
    unexplained, _ = explained(found, meant)
    assert not unexplained, "\n" + "\n".join(map(str, unexplained[:50]))
    _, unused = explained(found, must_occur)
    assert not unused, "these places are the same by now: " + "\n".join(
        f"{place.place} of {line!r}" for line, place in unused
    )


async def _document(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        document: dict[str, Any] = (await client.get("/openapi.json")).json()
        return document


def test_each_difference_that_is_meant_is_one_line_of_the_document() -> None:
    document = (ROOT / "docs" / "compatibility.md").read_text()
    for entry in (*DELIBERATE, *USERS):
        lines = re.findall(rf"^\| {re.escape(entry.line)}.* \| .+ \|$", document, re.M)
        assert len(lines) == 1, entry.line
    for entries in (DELIBERATE, USERS):
        lines = [entry.line for entry in entries]
        assert len(lines) == len(set(lines))


def test_both_servers_run_the_same_langgraph() -> None:
    """Or differences of LangGraph's own would count as theirs."""
    official = dict(
        line.split("==")
        for line in (Path(__file__).parent / "requirements.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    locked = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', (ROOT / "uv.lock").read_text()))
    for package in (
        "langgraph",
        "langgraph-checkpoint",
        "langgraph-prebuilt",
        "langgraph-sdk",
        "langchain-core",
    ):
        assert official[package] == locked[package], package
