"""What the routes of skills answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

from slackwater.errors import BadRequest, ConfigurationUnusable, Conflict, Forbidden, NotFound
from slackwater.web.openapi.pieces import Operation, Response, Shape, header
from slackwater.workspace.skills.document import InvalidSkill
from slackwater.workspace.skills.package import InvalidPackage
from slackwater.workspace.skills.service import SkillBlocked, SkillChanged, TooManySkills

TAG = "Documents that tell a model how to do something."


class Skill(Shape):
    """A skill, as the caller sees it."""

    name: str
    description: str
    license: str | None
    category: Literal["public", "custom"]
    enabled: bool


class Skills(Shape):
    """Public ones first, each by name."""

    skills: list[Skill]


class SkillWithContent(Skill):
    """The same, with its SKILL.md."""

    content: str


class InstalledSkill(Shape):
    """It is there."""

    success: bool
    skill_name: str
    message: str


class ScannerVerdict(Shape):
    """What the scanner has said."""

    decision: Literal["allow", "warn", "block"]
    reason: str


class SkillHistoryEntry(Shape):
    """What was done to a skill."""

    action: Literal["install", "human_edit", "human_delete", "rollback"]
    author: str
    thread_id: UUID | None
    file_path: str
    prev_content: str | None
    new_content: str | None
    """That of a rollback that was blocked, too."""
    scanner: ScannerVerdict
    ts: datetime


class SkillHistory(Shape):
    """Oldest first."""

    history: list[SkillHistoryEntry]


class SkillGone(Shape):
    """It was deleted."""

    success: bool


_CONTENT = "---\nname: report\ndescription: Writes the weekly report.\n---\nBegin with the figures.\n"
_ONE = {
    "name": "report",
    "description": "Writes the weekly report.",
    "license": None,
    "category": "custom",
    "enabled": True,
}
_WITH_CONTENT = {**_ONE, "content": _CONTENT}
_ENTRY = {
    "action": "human_edit",
    "author": "human",
    "thread_id": None,
    "file_path": "SKILL.md",
    "prev_content": _CONTENT,
    "new_content": _CONTENT,
    "scanner": {"decision": "allow", "reason": "No scanner is configured."},
    "ts": "2026-11-28T01:00:00.000000+00:00",
}
_NAME = {"name": {"description": "The name of a skill.", "example": "report"}}
_NONE = NotFound("Skill 'x' not found")
_ETAG = {"ETag": header("Which version this is: what `If-Match` is for.", example='"7"')}
_READ = Response("The skill.", SkillWithContent, _WITH_CONTENT, headers=_ETAG)
_CUSTOM = "/api/skills/custom/{name}"

OPERATIONS: Mapping[str, Operation] = {
    "GET /api/skills": Operation(
        id="list_skills", responses={200: Response("The skills.", Skills, {"skills": [_ONE]})}
    ),
    "POST /api/skills/install": Operation(
        id="install_skill",
        responses={
            200: Response(
                "It is installed.",
                InstalledSkill,
                {
                    "success": True,
                    "skill_name": "report",
                    "message": "Skill 'report' installed successfully",
                },
            )
        },
        bodies={
            "from a thread": {
                "thread_id": "01a21fba-8676-76a5-a0d9-51611efa800d",
                "path": "/mnt/user-data/outputs/report.skill",
            }
        },
        errors=(
            ConfigurationUnusable,
            InvalidPackage,
            InvalidSkill,
            SkillBlocked,
            TooManySkills,
            NotFound("Skill file not found: p"),
            Conflict("Skill 'x' already exists"),
        ),
    ),
    "GET /api/skills/custom": Operation(
        id="list_custom_skills", responses={200: Response("The skills.", Skills, {"skills": [_ONE]})}
    ),
    f"GET {_CUSTOM}": Operation(
        id="get_custom_skill", responses={200: _READ}, parameters=_NAME, errors=(_NONE,)
    ),
    f"PUT {_CUSTOM}": Operation(
        id="edit_skill",
        responses={200: _READ},
        parameters=_NAME,
        bodies={"edited": {"content": _CONTENT}},
        errors=(InvalidSkill, SkillBlocked, _NONE, SkillChanged, ConfigurationUnusable),
    ),
    f"DELETE {_CUSTOM}": Operation(
        id="delete_skill",
        responses={200: Response("It is gone.", SkillGone, {"success": True})},
        parameters=_NAME,
        errors=(_NONE, SkillChanged),
    ),
    f"GET {_CUSTOM}/history": Operation(
        id="get_skill_history",
        responses={200: Response("What was done to it.", SkillHistory, {"history": [_ENTRY]})},
        parameters=_NAME,
        errors=(_NONE,),
    ),
    f"POST {_CUSTOM}/rollback": Operation(
        id="roll_back_skill",
        responses={200: _READ},
        parameters=_NAME,
        bodies={"the last change": {"history_index": -1}},
        errors=(
            BadRequest("history_index is out of range"),
            SkillBlocked,
            _NONE,
            SkillChanged,
            ConfigurationUnusable,
        ),
    ),
    "GET /api/skills/{name}": Operation(
        id="get_skill",
        responses={200: Response("The skill.", Skill, _ONE)},
        parameters=_NAME,
        errors=(_NONE,),
    ),
    "PUT /api/skills/{name}": Operation(
        id="switch_skill",
        responses={200: Response("The skill.", Skill, _ONE)},
        parameters=_NAME,
        bodies={"off": {"enabled": False}},
        errors=(_NONE, Forbidden("Only administrators may do this.")),
    ),
}
