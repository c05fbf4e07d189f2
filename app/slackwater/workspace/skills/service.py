"""The rules of skills: what an owner sees, what may be kept, and who has been first."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

from slackwater.blobs import queries as blobs
from slackwater.blobs.blobs import BlobGone
from slackwater.blobs.copy import temporary_copy
from slackwater.errors import BadRequest, Conflict, NotFound
from slackwater.identity.audit.actor import Actor
from slackwater.identity.custom import access
from slackwater.identity.permissions import Permission
from slackwater.identity.principal import Principal
from slackwater.kit.ids import parse_canonical
from slackwater.kit.json_format import timestamp
from slackwater.kit.threads import Threads
from slackwater.postgres.pool import Row
from slackwater.workspace import as_items
from slackwater.workspace.files.archive import ARCHIVE_BYTES
from slackwater.workspace.files.names import path_of
from slackwater.workspace.skills import queries, scanner
from slackwater.workspace.skills.document import FILE, Document, InvalidSkill, is_name, read_document
from slackwater.workspace.skills.models import SkillInstalled, SkillSwitched
from slackwater.workspace.skills.package import InvalidPackage, Package, read_package
from slackwater.workspace.skills.public import shown
from slackwater.workspace.skills.queries import MOST_BYTES, MOST_SKILLS, Change
from slackwater.workspace.skills.scanner import Decision, Judgement
from slackwater.workspace.versions import Versioned, etag_of, version_in

if TYPE_CHECKING:
    from slackwater.services import Services

SUFFIX = ".skill"
KIND: Final = "skills"

_threads = Threads("skills", 4, 4)


class SkillChanged(Conflict):
    """The skill has been changed meanwhile, by another request: read it again, and repeat yours."""


class SkillBlocked(BadRequest):
    """The security scanner has blocked the skill"""


class TooManySkills(BadRequest):
    """You have as many skills as you may, or as large ones: delete one first."""


async def list_(services: Services, principal: Principal, *, own: bool = False) -> list[dict[str, Any]]:
    """What the caller sees, or their own."""
    await as_items.require(services, principal, "search", KIND)
    public = () if own else services.public_skills
    rows = await queries.list_(services.database, principal.owner, public)
    return [shown(row, services.public_skills) for row in rows]


async def get(services: Services, principal: Principal, name: str) -> dict[str, Any]:
    """One of them. Raises NotFound."""
    await as_items.require(services, principal, "get", KIND, name)
    row = await _find(services, principal, name, services.public_skills)
    if row is None:
        _not_found(name)
    return shown(row, services.public_skills)


async def switch(services: Services, principal: Principal, name: str, body: SkillSwitched) -> dict[str, Any]:
    """Switch a skill on or off, for the caller or for everybody. Raises NotFound, and Forbidden for what administrators do."""
    if not is_name(name):
        _not_found(name)
    await as_items.require(services, principal, "put", KIND, name)
    if body.everybody:
        principal.require(Permission.SKILLS_MANAGE)
        if name not in services.public_skills:
            _not_found(name)
        await queries.switch_for_everybody(
            services.database, name, enabled=body.enabled, actor=Actor.of(principal).parameters
        )
        # Not `get`: a handler that refuses to show it must not refuse what has been done.
        row = await _find(services, principal, name, services.public_skills)
    else:
        row = await queries.switch(
            services.database, principal.owner, name, services.public_skills, enabled=body.enabled
        )
    if row is None:
        _not_found(name)
    return shown(row, services.public_skills)


async def install(services: Services, principal: Principal, body: SkillInstalled) -> str:
    """Install a skill from a file of a thread that the caller may read; its name.

    Raises NotFound, Conflict, InvalidPackage, InvalidSkill, SkillBlocked and TooManySkills.
    """
    thread_id = parse_canonical(body.thread_id, "thread")
    package = await _package(services, principal, thread_id, body.path)
    document = read_document(package.content)
    await as_items.require(services, principal, "put", KIND, document.name)
    if await _find(services, principal, document.name, ()) is not None:
        _exists(document.name)
    files: dict[str, str | bytes] = {FILE: document.content, **package.files}
    verdict = await scanner.judge(services, principal.owner, document.name, files, thread_id)
    if verdict.decision is Decision.BLOCK:
        raise SkillBlocked(f"Security scan blocked skill '{document.name}': {verdict.reason}")
    entry = _entry("install", None, document.content, verdict, thread_id)
    if await queries.add(services.database, principal.owner, document, package.files, entry) is None:
        await _require_room(services, principal, document.name)
    return document.name


async def get_custom(services: Services, principal: Principal, name: str) -> Versioned:
    """One of the caller's own. Raises NotFound."""
    await as_items.require(services, principal, "get", KIND, name)
    return _custom(services, await _own(services, principal, name))


async def edit(
    services: Services, principal: Principal, name: str, content: str, if_match: str | None
) -> Versioned:
    """Replace its SKILL.md. Raises NotFound, InvalidSkill, SkillBlocked, and SkillChanged if another has been first."""
    await as_items.require(services, principal, "put", KIND, name)
    row = await _own(services, principal, name, changes=True)
    _require_match(row, if_match)
    document = _named(content, name)
    verdict = await scanner.judge(services, principal.owner, name, {FILE: content})
    if verdict.decision is Decision.BLOCK:
        raise SkillBlocked(f"Security scan blocked the edit: {verdict.reason}")
    entry = _entry("human_edit", row["content"], content, verdict)
    # A model may have taken seconds to judge: what was read is compared, and nobody's edit is lost.
    version = await queries.change(services.database, principal.owner, document, row["version"], entry)
    if version is None:
        raise SkillChanged
    return _custom(services, _as(row, document, version))


async def delete(services: Services, principal: Principal, name: str, if_match: str | None) -> None:
    """Delete it, with its files. Raises NotFound and SkillChanged."""
    await as_items.require(services, principal, "delete", KIND, name)
    row = await _own(services, principal, name, changes=True)
    _require_match(row, if_match)
    verdict = Judgement(Decision.ALLOW, "Deletion requested.")
    entry = _entry("human_delete", row["content"], None, verdict)
    if not await queries.delete(services.database, principal.owner, name, row["version"], entry):
        raise SkillChanged


async def history(services: Services, principal: Principal, name: str) -> list[dict[str, Any]]:
    """What was done to a skill that is there or was. Raises NotFound."""
    await as_items.require(services, principal, "get", KIND, name)
    rows = await queries.history(services.database, principal.owner, name) if is_name(name) else []
    if not rows:
        await _own(services, principal, name)
    return [_told(row) for row in rows]


async def roll_back(services: Services, principal: Principal, name: str, index: int) -> Versioned:
    """Make it what it was before a change of its history, also if it was deleted since.

    Raises NotFound, BadRequest for an entry that there is not or that has nothing before it, SkillBlocked and SkillChanged.
    """
    await as_items.require(services, principal, "put", KIND, name)
    row = await _find(services, principal, name, ())
    entries = await queries.history(services.database, principal.owner, name) if is_name(name) else []
    if row is None and not entries:
        _not_found(name, "Custom skill")
    if not entries:
        raise BadRequest(f"Custom skill '{name}' has no history")
    if not -len(entries) <= index < len(entries):
        raise BadRequest("history_index is out of range")
    content = entries[index]["prev_content"]
    if content is None:
        raise BadRequest("Selected history entry has no previous content to roll back to")
    document = _named(content, name)
    verdict = await scanner.judge(services, principal.owner, name, {FILE: content})
    entry = _entry("rollback", row["content"] if row else None, content, verdict)
    if verdict.decision is Decision.BLOCK:
        await queries.tell(services.database, principal.owner, name, entry)
        raise SkillBlocked(f"Rollback blocked by security scanner: {verdict.reason}")
    if row is not None:
        version = await queries.change(services.database, principal.owner, document, row["version"], entry)
        if version is None:
            raise SkillChanged
        return _custom(services, _as(row, document, version))
    version = await queries.add(services.database, principal.owner, document, {}, entry)
    if version is None:
        if await _find(services, principal, name, ()) is not None:
            raise SkillChanged
        _too_many()
    return await get_custom(services, principal, name)


async def _package(services: Services, principal: Principal, thread_id: UUID, virtual: str) -> Package:
    path = path_of(virtual)
    if not path.endswith(SUFFIX):
        raise InvalidPackage(f"The file must be an archive whose name ends with {SUFFIX}.")
    owner = (await access.to_thread(services, principal, "read", thread_id)).owner
    row = await blobs.find(services.database, owner, thread_id, path)
    if row is None:
        raise NotFound(f"Skill file not found: {virtual}")
    if row["size"] > ARCHIVE_BYTES:
        raise InvalidPackage("The archive is too large.")
    assert services.blobs is not None, "these routes are there with the gateway only"
    try:
        async with temporary_copy(services.blobs, row["blob"], _threads) as copy:
            return await copy.call(read_package)
    except BlobGone:
        raise NotFound(f"Skill file not found: {virtual}") from None


def _named(content: str, name: str) -> Document:
    document = read_document(content)
    if document.name != name:
        raise InvalidSkill(
            f"{FILE}: name must be {name!r}, as the skill is called, and not {document.name!r}."
        )
    return document


async def _find(services: Services, principal: Principal, name: str, public: Collection[str]) -> Row | None:
    return await queries.find(services.database, principal.owner, name, public) if is_name(name) else None


async def _own(services: Services, principal: Principal, name: str, *, changes: bool = False) -> Row:
    row = await _find(services, principal, name, ())
    if row is None and changes and name in services.public_skills:
        raise BadRequest(
            f"'{name}' is a public skill: install one of your own with its name, which takes its place."
        )
    if row is None:
        _not_found(name, "Custom skill")
    return row


async def _require_room(services: Services, principal: Principal, name: str) -> NoReturn:
    if await _find(services, principal, name, ()) is not None:
        _exists(name)
    _too_many()


def _require_match(row: Row, if_match: str | None) -> None:
    if version_in(if_match, SkillChanged) not in (None, row["version"]):
        raise SkillChanged


def _not_found(name: str, what: str = "Skill") -> NoReturn:
    raise NotFound(f"{what} '{name}' not found".replace("\n", "").replace("\r", ""))


def _exists(name: str) -> NoReturn:
    raise Conflict(f"Skill '{name}' already exists")


def _too_many() -> NoReturn:
    raise TooManySkills(
        f"You may have {MOST_SKILLS} skills, and {MOST_BYTES // 2**20} MiB of them: delete one first."
    )


def _entry(
    action: str,
    before: str | None,
    after: str | None,
    verdict: Judgement,
    thread_id: UUID | None = None,
) -> Change:
    return Change(action, before, after, verdict.decision.value, verdict.reason, thread_id=thread_id)


def _as(row: Row, document: Document, version: int) -> Row:
    return {
        **row,
        "description": document.description,
        "license": document.license,
        "content": document.content,
        "version": version,
    }


def _custom(services: Services, row: Row) -> Versioned:
    return Versioned(
        {**shown(row, services.public_skills), "content": row["content"]}, etag_of(row["version"])
    )


def _told(row: Row) -> dict[str, Any]:
    return {
        "action": row["action"],
        "author": row["author"],
        "thread_id": str(row["thread_id"]) if row["thread_id"] else None,
        "file_path": row["file_path"],
        "prev_content": row["prev_content"],
        "new_content": row["new_content"],
        "scanner": row["scanner"],
        "ts": timestamp(row["at"]),
    }
