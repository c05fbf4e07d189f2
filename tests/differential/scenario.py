"""The table of scenarios, and how one is played on two servers at once."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.differential.compare import Difference, differences
from tests.differential.normal import normal
from tests.differential.script import Script

Play = Callable[[Script], Awaitable[None]]
SCENARIO_SECONDS = 150


@dataclass(frozen=True)
class Scenario:
    """`play` calls a server that serves `project`; `alone` when it would disturb others that run on the same server."""

    name: str
    play: Play
    alone: bool = False
    project: str = "project"


SCENARIOS: list[Scenario] = []


def scenario(name: str, *, alone: bool = False, project: str = "project") -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        assert name not in {known.name for known in SCENARIOS}, name
        SCENARIOS.append(Scenario(name, play, alone, project))
        return play

    return add


@dataclass
class Played:
    """What a scenario has shown, every method and path that it has called, and why it broke off if it did."""

    differences: list[Difference]
    called: set[tuple[str, str]]
    broken: list[str]


async def play(chosen: Scenario, official_url: str, our_url: str) -> Played:
    """The scenario on both servers at once."""
    official, ours = Script(official_url, chosen.name), Script(our_url, chosen.name)
    broken = await asyncio.gather(_play(chosen, official), _play(chosen, ours))
    found = list(differences(chosen.name, normal(official.steps, official.url), normal(ours.steps, ours.url)))
    return Played(found, official.called | ours.called, [text for text in broken if text])


async def _play(chosen: Scenario, script: Script) -> str | None:
    """Why it could not be played to its end, or nothing."""
    try:
        async with asyncio.timeout(SCENARIO_SECONDS):
            await chosen.play(script)
    except Exception:
        last = script.steps[-1] if script.steps else None
        return f"{chosen.name} broke off on {script.url} after {last}:\n{traceback.format_exc(limit=-3)}"
    finally:
        await script.close()
    return None


async def play_all(chosen: list[Scenario], official_url: str, our_url: str) -> list[Played]:
    """All at once, then those that have to be alone, one after another."""
    together = [scenario for scenario in chosen if not scenario.alone]
    played = list(await asyncio.gather(*(play(scenario, official_url, our_url) for scenario in together)))
    for scenario in chosen:
        if scenario.alone:
            played.append(await play(scenario, official_url, our_url))  # noqa: PERF401
    return played
