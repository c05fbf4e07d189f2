"""A person chats in a browser: `useStream`, unmodified, against servers that are stopped in the middle of an answer."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from urllib.parse import urlencode

import pytest

from tests.drills.drill import Drill
from tests.support.balancer import Balancer
from tests.support.browser import ELSEWHERE, Chromium, Page
from tests.support.effects import Effect, finished, repeated, started
from tests.support.server import ServerProcess

pytestmark = pytest.mark.drill

ANSWER = "The tide turns twice a day, and between the two there is slack water."
CLOSE = "So nobody on board has to notice, and the voyage goes on."
SAID = [
    ANSWER,
    "Then nothing pulls at the boat: whoever has to change the helmsman does it now.",
    "Ashore it is the moment between two shifts, when the hall is quiet.",
    "It does not last: in a few minutes the tide sets in from the other side.",
    CLOSE,
]
"""What the nodes of the graph `chat` say."""
NODES = ["answer", "explain", "compare", "warn", "close"]

KEY = "a person's own"
KEYS = {"SLACKWATER_API_KEYS": f"anna:{sha256(KEY.encode()).hexdigest()}"}
IDLE = "document.querySelector('output').textContent === 'ready'"


async def open_chat(
    page: Page, server: str, port: int, *, hook: str, host: str = "127.0.0.1", key: str = ""
) -> None:
    asked = {"server": server, "hook": hook, **({"key": key} if key else {})}
    await page.call("goto", f"http://{host}:{port}/?{urlencode(asked)}")


async def say(page: Page, text: str) -> None:
    await page.call("fill", "input", text)
    await page.call("click", "text=Send")


async def until_said(page: Page, *texts: str) -> None:
    """Wait until these are the last messages, and nothing is on its way."""
    await page.until(
        f"{IDLE} && JSON.stringify([...document.querySelectorAll('li')].slice(-{len(texts)})"
        f".map((item) => item.textContent)) === JSON.stringify({list(texts)!r})"
    )


async def until_begun(page: Page) -> None:
    """Wait until the first words of an answer are there."""
    await page.until("[...document.querySelectorAll('li')].at(-1)?.textContent.startsWith('The tide turns')")


def check_words(seen: list[list[str]], texts: list[str]) -> int:
    """Each message grew by words: none was missing, none was there twice, none was taken back. How many changes."""
    changes = 0
    for place, text in enumerate(texts):
        shown = [state[place] for state in seen if len(state) > place and state[place]]
        grown = [one for one, after in pairwise([*shown, ""]) if one != after]
        words = text.split(" ")
        beginnings = [" ".join(words[:n]) for n in range(1, len(words) + 1)]
        assert grown == [beginning for beginning in beginnings if beginning in grown], grown
        assert grown[-1] == text
        changes += len(grown)
    return changes


def check_handover(
    drill: Drill, mark: int, first: ServerProcess, second: ServerProcess, answers: int
) -> None:
    """One process began these answers and another one ended them: each node once."""
    assert [run["outcome"] for run in first.report()["runs"]] == ["drained"] * answers
    runs: dict[str, list[Effect]] = {}
    for effect in drill.effects.after(mark):
        runs.setdefault(effect.run, []).append(effect)
    assert len(runs) == answers
    for effects in runs.values():
        assert finished(effects) == NODES
        assert not repeated(started(effects))
        assert {effect.pid for effect in effects} == {first.pid, second.pid}


async def test_a_person_chats_and_does_not_notice_that_the_server_is_replaced(
    drill: Drill, chromium: Chromium, page_port: int
) -> None:
    first, second = await drill.fleet.start(2)
    pages = {hook: chromium.page() for hook in ("sdk", "react", "socket")}
    async with Balancer([first]).serve() as balancer:
        # GIVEN pages of this machine
        for hook, page in pages.items():
            await open_chat(page, balancer.url, page_port, hook=hook)
            await say(page, "What is slack water?")
        # THEN the answer comes word by word
        for page in pages.values():
            await until_said(page, "What is slack water?", *SAID)
            assert check_words(await page.call("evaluate", "seen"), await page.texts("li")) > 10
        # WHEN there is a question, THEN it is shown, and the run goes on with what is answered
        for page in pages.values():
            await say(page, "Now publish it.")
        for page in pages.values():
            await page.until("document.querySelector('aside')?.textContent.includes('Shall I publish this?')")
            await page.call("click", "text=Yes")
        for page in pages.values():
            await until_said(page, "Now publish it.", ANSWER, "You decided: yes.", CLOSE)
            assert not await page.texts("aside")
        # WHEN the process that serves the answers is stopped in the middle of them
        mark = drill.effects.last()
        for page in pages.values():
            await say(page, "And again?")
        for page in pages.values():
            await until_begun(page)
        balancer.replicas.append(second)
        await drill.stop(first)
        # THEN each page goes on, word by word, and ends with the same text
        for hook, page in pages.items():
            await until_said(page, "And again?", *SAID)
            texts = await page.texts("li")
            assert texts == [
                *("What is slack water?", *SAID),
                *("Now publish it.", ANSWER, "You decided: yes.", CLOSE),
                *("And again?", *SAID),
            ]
            check_words(await page.call("evaluate", "seen"), texts)
            assert not await page.problems()
            assert bool(await page.sockets()) == (hook == "socket")
    check_handover(drill, mark, first, second, len(pages))


async def test_a_page_that_is_loaded_again_finds_its_answer_at_another_server(
    drill: Drill, chromium: Chromium, page_port: int
) -> None:
    first, second = await drill.fleet.start(2, env=KEYS)
    pages = {hook: chromium.page() for hook in ("rejoining", "react")}
    async with Balancer([first]).serve() as balancer:
        # GIVEN pages from elsewhere: without a key they are told so
        for hook, page in pages.items():
            await open_chat(page, balancer.url, page_port, hook=hook, host=ELSEWHERE)
            await say(page, "What is slack water?")
            await page.until("document.querySelector('[role=alert]')?.textContent.includes('401')")
        # GIVEN the same with a key, in the middle of an answer
        mark = drill.effects.last()
        for hook, page in pages.items():
            await open_chat(page, balancer.url, page_port, hook=hook, host=ELSEWHERE, key=KEY)
            await say(page, "What is slack water?")
        for page in pages.values():
            await until_begun(page)
        # WHEN the process that serves it is stopped, and the page is loaded again
        balancer.replicas.append(second)
        await drill.stop(first)
        for page in pages.values():
            await page.call("reload")
        # THEN it ends with the same text; before, it shows the state, and reads the run from its beginning
        for page in pages.values():
            await until_said(page, "What is slack water?", *SAID)
            assert await page.texts("li") == ["What is slack water?", *SAID]
            assert not await page.problems()
    check_handover(drill, mark, first, second, len(pages))
