"""The skills of a run's owner, for the nodes and tools of a graph: public ones and their own, as far as they are switched on.

    from slackwater.skills import aread, askills

    async def agent(state: State, runtime: Runtime) -> State:
        agent = runtime.context.get("agent") or {}
        for skill in await askills(agent.get("skills")):          # None: all that are on
            prompt += f"\\n- {skill['name']}: {skill['description']}"
        ...

    @tool
    async def use_skill(name: str) -> str:
        return await aread(name)                                  # its SKILL.md

Each function is there twice: `read` for a `def`, and `aread` for an `async def`, in which the first would hold up the event loop and
raises InvalidStateError. All of them raise NoSkills outside of a run, and RunOver when the run has ended or goes on in another process.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from slackwater.errors import NoSkills
from slackwater.runtime.execution.node_skills import RunSkills, current_skills

FILE = "SKILL.md"


async def askills(names: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Those that are on, or those of these names that are: `name`, `description`, `license` and `category` (`public`, `custom`)."""
    run = _of_this_run()
    return await run.loop.run(lambda: run.list_(names))


def skills(names: Collection[str] | None = None) -> list[dict[str, Any]]:
    """As `askills`, for a `def`."""
    run = _of_this_run()
    return run.loop.call(lambda: run.list_(names))


async def aread(name: str) -> str:
    """Its SKILL.md. Raises UnknownSkill, also if it is switched off."""
    return (await aread_file(name, FILE)).decode()


def read(name: str) -> str:
    """As `aread`, for a `def`."""
    return read_file(name, FILE).decode()


async def aread_file(name: str, path: str) -> bytes:
    """A file beside it, by its path below the skill's folder: at most 1 MiB. Raises UnknownSkill."""
    run = _of_this_run()
    return await run.loop.run(lambda: run.read(name, path))


def read_file(name: str, path: str) -> bytes:
    """As `aread_file`, for a `def`."""
    run = _of_this_run()
    return run.loop.call(lambda: run.read(name, path))


def _of_this_run() -> RunSkills:
    found = current_skills.get()
    if found is None:
        raise NoSkills
    return found
