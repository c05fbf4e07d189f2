"""The rules of agents: what they are called, whose they are, and what a run is told of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slackwater.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound, RefusedByAuth
from slackwater.identity.principal import Principal
from slackwater.postgres.pool import Row
from slackwater.workspace import as_items
from slackwater.workspace.agents import queries
from slackwater.workspace.agents.models import NAME_CHARACTERS, AgentChanged, AgentMade, ProfileWritten
from slackwater.workspace.agents.queries import FIELDS, MOST_AGENTS
from slackwater.workspace.llm_models.allowed import require_model
from slackwater.workspace.versions import Versioned, etag_of, version_in

if TYPE_CHECKING:
    from slackwater.services import Services

PROFILE = "profile"

_NAME = re.compile(r"[A-Za-z0-9-]+")


class AgentsDisabled(Forbidden):
    """Agents are switched off (agents_api.enabled): set gateway.agents.enabled in langgraph.json."""


class InvalidAgentName(Invalid):
    """An agent's name has letters, digits and hyphens only, and at most 64 of them."""


class AgentChangedMeanwhile(Conflict):
    """It has been changed meanwhile, by another request: read it again, and repeat yours."""


class TooManyAgents(BadRequest):
    """You have as many agents as you may: delete one first."""


async def list_(services: Services, principal: Principal) -> list[dict[str, Any]]:
    """The caller's, by name."""
    require_enabled(services)
    await as_items.require(services, principal, "search", "agents")
    return [shown(row) for row in await queries.list_(services.database, principal.owner)]


async def rows(services: Services, principal: Principal) -> list[Row]:
    """The caller's, by name, for who asks for others, too: none if agents are switched off, or not for the caller."""
    if not services.graphs.gateway.agents.enabled:
        return []
    try:
        await as_items.require(services, principal, "search", "agents")
    except RefusedByAuth:
        return []
    return await queries.list_(services.database, principal.owner)


async def check(services: Services, principal: Principal, name: str) -> dict[str, Any]:
    """Whether the caller may still call one that. Raises InvalidAgentName."""
    require_enabled(services)
    name = name_of(name)
    await as_items.require(services, principal, "get", "agents", name)
    there = await queries.find(services.database, principal.owner, name)
    return {"available": there is None, "name": name}


async def get(services: Services, principal: Principal, name: str) -> Versioned:
    """Raises InvalidAgentName and NotFound."""
    require_enabled(services)
    name = name_of(name)
    await as_items.require(services, principal, "get", "agents", name)
    row = await queries.find(services.database, principal.owner, name)
    if row is None:
        raise _not_found(name)
    return _versioned(row)


async def create(services: Services, principal: Principal, body: AgentMade) -> Versioned:
    """Raises InvalidAgentName, UnknownModel, Conflict if there is one, and TooManyAgents."""
    require_enabled(services)
    name = name_of(body.name)
    require_model(services.graphs, body.model)
    await as_items.require(services, principal, "put", "agents", name)
    row = await queries.create(services.database, principal.owner, name, body.model_dump(exclude={"name"}))
    if row is not None:
        return _versioned(row)
    if await queries.find(services.database, principal.owner, name) is not None:
        raise Conflict(f"Agent '{name}' already exists")
    raise TooManyAgents(f"You may have {MOST_AGENTS} agents: delete one first.")


async def change(
    services: Services, principal: Principal, name: str, body: AgentChanged, if_match: str | None
) -> Versioned:
    """Change what the body says. Raises InvalidAgentName, UnknownModel, NotFound, and AgentChangedMeanwhile if another has been first."""
    require_enabled(services)
    name = name_of(name)
    require_model(services.graphs, body.model)
    await as_items.require(services, principal, "put", "agents", name)
    version = version_in(if_match, AgentChangedMeanwhile)
    read = await queries.find(services.database, principal.owner, name)
    if read is None:
        raise _not_found(name)
    said = body.model_dump(exclude_unset=True)
    row = await queries.change(services.database, principal.owner, name, said, read, version)
    if row is None:
        raise await _missed(services, principal, name)
    return _versioned(row)


async def delete(services: Services, principal: Principal, name: str, if_match: str | None) -> None:
    """Raises InvalidAgentName, NotFound and AgentChangedMeanwhile."""
    require_enabled(services)
    name = name_of(name)
    await as_items.require(services, principal, "delete", "agents", name)
    if not await queries.delete(
        services.database, principal.owner, name, version_in(if_match, AgentChangedMeanwhile)
    ):
        raise await _missed(services, principal, name)


async def profile(services: Services, principal: Principal) -> Versioned:
    """What the caller says of themselves."""
    require_enabled(services)
    await as_items.require(services, principal, "get", "profile", PROFILE)
    return _profile(await queries.profile(services.database, principal.owner))


async def write_profile(
    services: Services, principal: Principal, body: ProfileWritten, if_match: str | None
) -> Versioned:
    """Replace it. Raises AgentChangedMeanwhile if another has been first."""
    require_enabled(services)
    await as_items.require(services, principal, "put", "profile", PROFILE)
    database, owner, content = services.database, principal.owner, body.content or ""
    version = version_in(if_match, AgentChangedMeanwhile)
    expected = version
    if expected is None:
        read = await queries.profile(database, owner)
        expected = 0 if read is None else read["version"]
    row = await queries.write_profile(database, owner, content, expected)
    if row is None and version is None:
        row = await queries.profile(database, owner)  # it may say just that
    if row is None or row["content"] != content:
        raise AgentChangedMeanwhile
    return _profile(row)


async def of_run(services: Services, owner: str, name: object) -> dict[str, Any] | None:
    """What a run of the owner is told of the agent that it names; None if it is none of theirs, or nobody's."""
    if not services.graphs.gateway.agents.enabled or not isinstance(name, str) or not is_name(name):
        return None
    row = await queries.of_run(services.database, owner, name.lower())
    return None if row is None else {**shown(row), "user_profile": row["user_profile"]}


def require_enabled(services: Services) -> None:
    """Raises AgentsDisabled."""
    if not services.graphs.gateway.agents.enabled:
        raise AgentsDisabled


def is_name(name: str) -> bool:
    return len(name) <= NAME_CHARACTERS and _NAME.fullmatch(name) is not None


def name_of(name: str) -> str:
    """As it is kept. Raises InvalidAgentName."""
    if not is_name(name):
        raise InvalidAgentName
    return name.lower()


def shown(row: Row) -> dict[str, Any]:
    """An agent as pages and graphs see it."""
    return {"name": row["name"], **{field: row[field] for field in FIELDS}}


def _versioned(row: Row) -> Versioned:
    return Versioned(shown(row), etag_of(row["version"]))


def _profile(row: Mapping[str, Any] | None) -> Versioned:
    if row is None:
        return Versioned({"content": None}, etag_of(0))
    return Versioned({"content": row["content"] or None}, etag_of(row["version"]))


async def _missed(services: Services, principal: Principal, name: str) -> Exception:
    there = await queries.find(services.database, principal.owner, name)
    return _not_found(name) if there is None else AgentChangedMeanwhile()


def _not_found(name: str) -> NotFound:
    return NotFound(f"Agent '{name}' not found")
