"""A person works in a page like DeerFlow's: the same calls, on one origin, on two replicas one of which is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.browser.gateway.project.agent import SAID
from tests.browser.test_page import check_words, say, until_said
from tests.support.balancer import Balancer
from tests.support.browser import SOURCES, Chromium, Page, build_page
from tests.support.server import fleet_of

pytestmark = pytest.mark.drill

TEXTS = list(SAID.values())
TOKENS = sum(10 + len(text.split()) for text in TEXTS)
"""Of one answer."""
EMAIL, PASSWORD = "maria@example.org", "correct horse battery"
BEGUN = (
    "[...document.querySelectorAll('li.ai')].filter((item) => item.textContent.startsWith('The tide')).length"
)


async def run(page: Page, expression: str) -> Any:
    return await page.call("evaluate", f"gateway.{expression}")


async def until_begun(page: Page, answers: int) -> None:
    """Wait until the first words of an answer are there, after as many others."""
    await page.until(f"{BEGUN} === {answers}")


async def test_a_working_day(database_uri: str, tmp_path: Path, chromium: Chromium) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    build_page(folder, "gateway/page.jsx")
    env = {
        "SLACKWATER_GATEWAY": "true",
        "SLACKWATER_ACCOUNTS": "true",
        "SLACKWATER_SETUP": "open",
        "SLACKWATER_BLOBS": f"file:{tmp_path / 'blobs'}",
        "PAGE_FOLDER": str(folder),
    }
    async with fleet_of(database_uri, tmp_path, SOURCES / "gateway" / "project", env) as fleet:
        first, second = await fleet.start(2)
        async with Balancer([first]).serve() as balancer:
            page, thread = chromium.page(), str(uuid4())
            await page.call("goto", f"{balancer.url}/workspace?new={thread}")

            # GIVEN somebody who has set up the server, and logs in
            assert (await run(page, f"initialize('{EMAIL}', '{PASSWORD}')"))["status"] == 201
            await run(page, "logout()")
            assert (await run(page, f"login('{EMAIL}', '{PASSWORD}')"))["status"] == 200
            models = (await run(page, "models()"))["data"]
            assert [model["name"] for model in models["models"]] == ["words"]
            assert models["token_usage"] == {"enabled": True}

            # WHEN they upload a page before there is a thread, and say something
            sent = await run(page, f"upload('{thread}', 'tide.html', '<script>alert(1)</script>')")
            assert sent["status"] == 200
            (file,) = sent["data"]["files"]
            await say(page, "What is slack water?")
            await until_said(page, "What is slack water?", *TEXTS)

            # THEN it came word by word, with a title; the file can be looked at; and the tokens are counted
            assert check_words(await page.call("evaluate", "seen"), await page.texts("li")) > 10
            await page.until("document.querySelector('h1').textContent === 'About slack water'")
            shown = await run(page, f"artifact('{thread}', '{file['virtual_path']}')")
            assert (shown["status"], shown["text"]) == (200, "<script>alert(1)</script>")
            assert (await run(page, f"tokens('{thread}')"))["data"]["total_tokens"] == TOKENS

            # WHEN they give it another name, and go on
            assert await run(page, f"rename('{thread}', 'Slack water')")
            await say(page, "And again?")
            await until_begun(page, 2)
            # AND load the page again in the middle of the answer
            await page.call("reload")
            await until_said(page, "And again?", *TEXTS)
            # THEN the name has stayed
            found = await run(page, "threads()")
            assert [(one["thread_id"], one["values"]["title"]) for one in found] == [(thread, "Slack water")]

            # WHEN they stop an answer, and go on after that
            await say(page, "Say it all once more.")
            await until_begun(page, 3)
            await page.call("click", "text=Stop")
            await page.until("document.querySelector('output').textContent === 'ready'")
            await say(page, "No, shorter.")
            await until_begun(page, 3)  # what was cut is not in the state
            await until_said(page, "No, shorter.", *TEXTS)
            # THEN what was stopped is still there
            said = await page.texts("li.human")
            assert said == ["What is slack water?", "And again?", "Say it all once more.", "No, shorter."]

            # WHEN the process that serves the answer is stopped in the middle of it
            await page.call("evaluate", "seen.length = 0")
            await say(page, "One more time.")
            await until_begun(page, 4)
            balancer.replicas.append(second)
            first.sigterm()
            # THEN they do not notice
            await until_said(page, "One more time.", *TEXTS)
            check_words(await page.call("evaluate", "seen"), await page.texts("li"))
            assert await first.wait() == 0

            # AND the history, read page by page, is what the state has, each message once and in its order
            state = await run(page, f"values('{thread}')")
            rows = await run(page, f"history('{thread}', 3)")
            assert [row["seq"] for row in rows] == sorted({row["seq"] for row in rows})
            assert [row["id"] for row in rows] == [message["id"] for message in state["messages"]]

            # WHEN they delete it, twice as the page does
            assert await run(page, f"remove('{thread}')") == 200
            assert await run(page, "threads()") == []
            assert await page.problems() == []
    assert not fleet.complaints
