"""Keeps what is in force in this process at what is stored, without a restart."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from slackwater.errors import SettingsError
from slackwater.graphs.registry import Graphs
from slackwater.kit.bounded import bounded
from slackwater.kit.moment import Moment
from slackwater.kit.repeated import Repeated
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database, Row
from slackwater.workspace.configuration import queries, service

log = logging.getLogger(__name__)

CHECK_SECONDS = 9.0
"""How often the version is compared: a change has to be in force within ten."""
THAW_SECONDS = 2.0
"""How long an invocation waits for that at most: without an answer it begins with what was in force."""


class ConfigurationWatch:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database, graphs: Graphs, process: str) -> None:
        self._database, self._graphs, self._process = database, graphs, process
        self.version = 0
        """The newest that was seen. 0: nothing was ever laid over `langgraph.json`, and that is in force."""
        self._changed_at: datetime | None = None
        self._keeps = False
        """A version was in force here already."""
        self._unsaid: tuple[int, str] | None = None
        """The version that cannot be used here and why, as long as others have not been told."""
        self._asked: Moment | None = None
        self._checks = Repeated("configuration", self.check, lambda: CHECK_SECONDS)

    async def open(self) -> None:
        """Before the process serves: put into force what is stored. Raises DATABASE_UNAVAILABLE."""
        # What is stored and cannot be used may be stricter than the file: that is never in force in its place.
        await self._look()

    def watch(self) -> None:
        """Compare the version again and again from now on. Where processes are frozen, `refresh` does."""
        self._checks.look()

    async def refresh(self) -> None:
        """Compare the version now, if that was not done lately: the process may have been frozen. Raises nothing of the database."""
        if self._asked is None or self._asked.age >= CHECK_SECONDS:
            await bounded(self.check(), THAW_SECONDS, None)

    async def check(self) -> None:
        """Compare the version, with one statement."""
        try:
            await self._look()
        except DATABASE_UNAVAILABLE as problem:
            log.warning(
                "the configuration was not compared: %s; what was in force stays",
                problem,
                extra={"event": "configuration.unchecked"},
            )

    async def stop(self) -> None:
        """Compare no more."""
        await self._checks.stop()

    async def _look(self) -> None:
        asked = Moment.now()
        row = await queries.read_if_changed(self._database, self.version, self._changed_at)
        self._asked = asked
        if row is not None:
            self._take(row)
        await self._say_trouble()

    def _take(self, row: Row) -> None:
        begins = self._changed_at is None
        self.version, self._changed_at = row["version"], row["changed_at"]
        try:
            spec = service.usable(self._graphs.own_gateway, row["value"])
        except SettingsError as error:
            self._graphs.cannot_put_in_force(keeps=self._keeps)
            log.error(
                "version %d of the configuration cannot be used here: %s",
                self.version,
                error.message,
                extra={"event": "configuration.unusable", **self._about(row)},
            )
            self._unsaid = self.version, error.message
        else:
            self._unsaid = None
            self._graphs.put_in_force(spec)
            self._keeps = True
            if self.version or not begins:
                log.info(
                    "version %d of the configuration is in force",
                    self.version,
                    extra={"event": "configuration.changed", **self._about(row)},
                )

    async def _say_trouble(self) -> None:
        unsaid, self._unsaid = self._unsaid, None
        if unsaid is None:
            return
        try:
            await queries.say_trouble(self._database, *unsaid, self._process)
        except BaseException:
            self._unsaid = self._unsaid or unsaid  # the next check says it
            raise

    def _about(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"version": row["version"], "keys": sorted(row["value"])}
