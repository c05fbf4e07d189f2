"""What nodes have of the skills of their run's owner. They only read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from slackwater.errors import UnknownSkill
from slackwater.kit.threads import Threads
from slackwater.postgres.pool import Database, Row
from slackwater.runtime.execution.owning_loop import OwningLoop
from slackwater.runtime.queue.lease import Lease
from slackwater.workspace.of_run import OfRun
from slackwater.workspace.skills import queries
from slackwater.workspace.skills.document import FILE, FILE_BYTES
from slackwater.workspace.skills.public import PublicSkill, shown

_threads = Threads("public-skills", 2, 2)


class SkillsOfRuns:
    """The skills of all owners, for their runs."""

    def __init__(self, database: Database, public: Mapping[str, PublicSkill]) -> None:
        self.database, self.public = database, public

    def of(self, owner: str, lease: Lease, loop: OwningLoop) -> SkillsOfRun:
        """Those of the owner of a run. Nothing is done yet."""
        return SkillsOfRun(self, owner, lease, loop)


class SkillsOfRun(OfRun):
    """Those of the owner of one attempt's run."""

    def __init__(self, all_: SkillsOfRuns, owner: str, lease: Lease, loop: OwningLoop) -> None:
        super().__init__(all_.database, owner, lease, loop)
        self._public = all_.public

    async def list_(self, names: Collection[str] | None) -> list[dict[str, Any]]:
        self._require()
        rows = await self._patiently(lambda: queries.list_(self._database, self._owner, self._public))
        wanted = None if names is None else set(names)
        found = [shown(row, self._public) for row in rows if wanted is None or row["name"] in wanted]
        return [
            {field: value for field, value in skill.items() if field != "enabled"}
            for skill in found
            if skill["enabled"]
        ]

    async def read(self, name: str, path: str) -> bytes:
        self._require()
        row = await self._patiently(lambda: self._find(name, path))
        if row is None or not row["enabled"]:
            raise UnknownSkill
        if row["category"] == "public":
            public = self._public[name]
            if path == FILE:
                return public.document.content.encode()
            return await asyncio.wrap_future(
                _threads.submit(self._owner, lambda: _content(public.folder, path))
            )
        if row["content"] is None:
            raise UnknownSkill
        return str(row["content"]).encode() if path == FILE else bytes(row["content"])

    async def _find(self, name: str, path: str) -> Row | None:
        """The skill, with the content of that file of it and of no other."""
        if path == FILE:
            return await queries.find(self._database, self._owner, name, self._public)
        return await queries.find_file(self._database, self._owner, name, self._public, path)


def _content(folder: Path, path: str) -> bytes:
    """A file below a folder, wherever links lead. Raises UnknownSkill."""
    try:
        file = (folder / path).resolve()
        if not file.is_relative_to(folder.resolve()) or not file.is_file():
            raise UnknownSkill
        with file.open("rb") as opened:
            content = opened.read(FILE_BYTES + 1)
    except (OSError, ValueError):
        raise UnknownSkill from None
    if len(content) > FILE_BYTES:
        raise UnknownSkill(f"{path} is too large: a file of a skill may have {FILE_BYTES} bytes.")
    return content
