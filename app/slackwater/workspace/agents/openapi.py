"""What the routes of agents answer."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.errors import ConfigurationUnusable, Conflict, NotFound
from slackwater.web.openapi.pieces import NO_CONTENT, Operation, Response, Shape, header
from slackwater.workspace.agents.service import (
    AgentChangedMeanwhile,
    AgentsDisabled,
    InvalidAgentName,
    TooManyAgents,
)
from slackwater.workspace.llm_models.allowed import UnknownModel

TAG = "Agents that users make, and what users say of themselves to them."


class CustomAgent(Shape):
    """An agent. Null is what was not said."""

    name: str
    description: str | None
    model: str | None
    tool_groups: list[str] | None
    skills: list[str] | None
    """Null: all. Empty: none."""
    soul: str | None


class CustomAgents(Shape):
    """By name."""

    agents: list[CustomAgent]


class AgentNameChecked(Shape):
    """Whether it is free."""

    available: bool
    name: str
    """In lower case, as it is kept."""


class UserProfile(Shape):
    """What a user says of themselves."""

    content: str | None


_ONE = {
    "name": "researcher",
    "description": "Looks things up.",
    "model": "fast",
    "tool_groups": ["web"],
    "skills": None,
    "soul": "You are thorough.",
}
_NAME = {"name": {"description": "The name of an agent.", "example": "researcher"}}
_NONE = NotFound("Agent 'x' not found")
_ETAG = {"ETag": header("Which version this is: what `If-Match` is for.", example='"7"')}
_AGENT = Response("The agent.", CustomAgent, _ONE, headers=_ETAG)
_PROFILE = Response("What they say.", UserProfile, {"content": "I am brief."}, headers=_ETAG)

OPERATIONS: Mapping[str, Operation] = {
    "GET /api/agents": Operation(
        id="list_custom_agents",
        responses={200: Response("The agents.", CustomAgents, {"agents": [_ONE]})},
        errors=(AgentsDisabled, ConfigurationUnusable),
    ),
    "POST /api/agents": Operation(
        id="create_custom_agent",
        responses={201: _AGENT},
        bodies={"a researcher": _ONE},
        errors=(
            TooManyAgents,
            AgentsDisabled,
            ConfigurationUnusable,
            Conflict("Agent 'x' already exists"),
            InvalidAgentName,
            UnknownModel("x"),
        ),
    ),
    "GET /api/agents/check": Operation(
        id="check_custom_agent_name",
        responses={
            200: Response("Whether it is free.", AgentNameChecked, {"available": True, "name": "researcher"})
        },
        parameters={"name": {"description": "What the agent is to be called.", "example": "Researcher"}},
        errors=(AgentsDisabled, ConfigurationUnusable, InvalidAgentName),
    ),
    "GET /api/agents/{name}": Operation(
        id="get_custom_agent",
        responses={200: _AGENT},
        parameters=_NAME,
        errors=(AgentsDisabled, ConfigurationUnusable, _NONE, InvalidAgentName),
    ),
    "PUT /api/agents/{name}": Operation(
        id="update_custom_agent",
        responses={200: _AGENT},
        parameters=_NAME,
        bodies={"all skills": {"skills": None}},
        errors=(
            AgentsDisabled,
            ConfigurationUnusable,
            _NONE,
            AgentChangedMeanwhile,
            InvalidAgentName,
            UnknownModel("x"),
        ),
    ),
    "DELETE /api/agents/{name}": Operation(
        id="delete_custom_agent",
        responses={204: NO_CONTENT},
        parameters=_NAME,
        errors=(AgentsDisabled, ConfigurationUnusable, _NONE, AgentChangedMeanwhile, InvalidAgentName),
    ),
    "GET /api/user-profile": Operation(
        id="get_user_profile", responses={200: _PROFILE}, errors=(AgentsDisabled, ConfigurationUnusable)
    ),
    "PUT /api/user-profile": Operation(
        id="put_user_profile",
        responses={200: _PROFILE},
        bodies={"brief": {"content": "I am brief."}},
        errors=(AgentsDisabled, ConfigurationUnusable, AgentChangedMeanwhile),
    ),
}
