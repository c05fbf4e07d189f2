"""What nodes have of the skills of their run's owner. They only read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from slackwater.errors import RunOver, UnknownSkill
from slackwater.kit.threads import Threads
from slackwater.postgres.pool import Database
from slackwater.postgres.retry import retrying
from slackwater.runtime.execution.owning_loop import OwningLoop
from slackwater.runtime.queue.lease import Lease
from slackwater.workspace.skills import queries
from slackwater.workspace.skills.document import FILE
from slackwater.workspace.skills.package import FILE_BYTES
from slackwater.workspace.skills.public import PublicSkill

T = TypeVar("T")

_threads = Threads("public-skills", 2, 2)


class SkillsOfRuns:
    """The skills of all owners, for their runs."""

    def __init__(self, database: Database, public: Mapping[str, PublicSkill]) -> None:
        self.database, self.public = database, public

    def of(self, owner: str, lease: Lease, loop: OwningLoop) -> SkillsOfRun:
        """Those of the owner of a run. Nothing is done yet."""
        return SkillsOfRun(self, owner, lease, loop)


class SkillsOfRun:
    """Those of the owner of one attempt's run."""

    def __init__(self, all_: SkillsOfRuns, owner: str, lease: Lease, loop: OwningLoop) -> None:
        self._database, self._public = all_.database, all_.public
        self._owner, self._lease, self._loop = owner, lease, loop

    @property
    def loop(self) -> OwningLoop:
        return self._loop

    async def list_(self, names: Collection[str] | None) -> list[dict[str, Any]]:
        self._require()
        rows = await self._patiently(lambda: queries.list_(self._database, self._owner, self._public))
        wanted = None if names is None else set(names)
        return [
            {
                "name": row["name"],
                "description": row["description"] or self._public[row["name"]].document.description,
                "license": row["license"]
                if row["category"] == "custom"
                else self._public[row["name"]].document.license,
                "category": row["category"],
            }
            for row in rows
            if row["enabled"] and (wanted is None or row["name"] in wanted)
        ]

    async def read(self, name: str, path: str) -> bytes:
        self._require()
        row = await self._patiently(lambda: queries.find(self._database, self._owner, name, self._public))
        if row is None or not row["enabled"]:
            raise UnknownSkill
        if row["category"] == "public":
            public = self._public[name]
            if path == FILE:
                return public.document.content.encode()
            return await asyncio.wrap_future(
                _threads.submit(self._owner, lambda: _content(public.folder, path))
            )
        if path == FILE:
            return str(row["content"]).encode()
        found = await self._patiently(lambda: queries.file(self._database, self._owner, name, path))
        if found is None:
            raise UnknownSkill
        return found

    def _require(self) -> None:
        if self._lease.over or self._lease.lost or self._lease.forgotten:
            raise RunOver

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Again while the database is away, which is no fault of the node's."""
        return await retrying(act, until=time.monotonic() + self._database.statement_seconds)


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
