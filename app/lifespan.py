"""The life of a process: open → serve → drain → release, in that order."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

from fastapi import FastAPI

from app import telemetry
from app.assistants import service as assistants
from app.aws.database import conninfo_of
from app.aws.secrets import with_secret_keys
from app.aws.wakeups import waker_of
from app.budget import Budget
from app.errors import ExitCode, SchemaError, StartError
from app.graphs.registry import Graphs
from app.postgres import schema
from app.postgres.embedded import EmbeddedPostgres
from app.postgres.pool import Database
from app.runtime import drain as draining
from app.runtime.runtime import Runtime
from app.settings import Settings
from app.signals import StopSignals

log = logging.getLogger(__name__)

OVERRUN_SECONDS = 0.25
"""How long after the deadline a process that still has not left is made to."""


@dataclass(slots=True)
class Services:
    """What the process has opened; every request finds it in its state."""

    settings: Settings
    database: Database
    graphs: Graphs
    runtime: Runtime
    stopping: Stopping = field(init=False)

    def __post_init__(self) -> None:
        self.stopping = Stopping(self)


class State(TypedDict):
    """The ASGI lifespan state."""

    services: Services


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """Open → serve → drain → release."""
    try:
        settings = app.state.settings or Settings.load()
        telemetry.configure(settings)
        async with open_services(settings) as services:
            app.state.stopping = services.stopping
            try:
                with StopSignals(services.stopping.stop):
                    yield {"services": services}
            finally:
                await services.stopping.finish()
    except StartError as error:
        app.state.start_error = error  # the server only knows that the start has failed
        telemetry.start_failed(error, log_it=app.state.settings is None)
        raise


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything a process needs, opened in order. Raises StartError when it cannot serve."""
    async with AsyncExitStack() as stack:
        settings = await with_secret_keys(settings)
        settings.check_lambda()
        graphs = await asyncio.to_thread(Graphs.load, settings.project)
        conninfo = conninfo_of(settings) or await _embedded(settings, stack)
        database = Database(
            conninfo,
            max_size=settings.pool_max_size,
            statement_seconds=settings.statement_seconds,
            name=f"serve {os.getpid()}",
        )
        await database.open()
        stack.push_async_callback(database.close, settings.hard_reserve_seconds)
        await schema.check(database)
        runtime = Runtime(settings, database, graphs, waker_of(settings))
        services = Services(settings, database, graphs, runtime)
        await assistants.register(services)
        await services.runtime.start()
        yield services


async def _embedded(settings: Settings, stack: AsyncExitStack) -> str:
    """Start, or share, the embedded server, and bring its schema up to date: nobody else would."""
    if settings.on_lambda:
        raise SchemaError(
            "On AWS Lambda there is no embedded server: set SLACKWATER_DATABASE_URI or SLACKWATER_DATABASE_SECRET_ARN."
        )
    server = EmbeddedPostgres(settings.data_dir, bindir=settings.postgres_bin)
    conninfo = await asyncio.to_thread(server.start)
    stack.callback(server.release)
    await schema.migrate(conninfo)
    return conninfo


class Stopping:
    """The stop of the process: happens once, whoever asks for it first, and is waited for by all."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._task: asyncio.Task[None] | None = None
        self.budget: Budget | None = None
        self.report: dict[str, Any] | None = None
        self.exit_code = ExitCode.CLEAN
        self._timer: threading.Timer | None = None

    async def stop(self, reason: str, seconds: float | None = None) -> None:
        """Drain every run; `seconds` is the time there is (default: the grace period).

        Survives cancellation of its callers, however often, and hands the first one on at its end.
        """
        if self._task is None:
            settings = self._services.settings
            self.budget = Budget.of(
                settings.grace_seconds if seconds is None else seconds,
                drain_reserve=settings.drain_reserve_seconds,
                hard_reserve=settings.hard_reserve_seconds,
            )
            self._watch(self.budget)
            self._task = asyncio.create_task(self._drain(self.budget, reason), name="drain")
        cancelled: asyncio.CancelledError | None = None
        while not self._task.done():
            try:
                await asyncio.wait({self._task})
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        if cancelled is not None:
            raise cancelled
        self._task.result()

    async def finish(self) -> None:
        """Drain if nobody has asked for it yet, then let go of everything, within the same budget."""
        try:
            await self.stop("shutdown")
        finally:
            await self._release()
            if self._timer is not None:
                self._timer.cancel()

    async def _drain(self, budget: Budget, reason: str) -> None:
        self.report = await self._services.runtime.drain(budget, reason)
        if any(run["outcome"] == "left" for run in self.report["runs"]):
            self.exit_code = ExitCode.RUNS_LEFT

    async def _release(self) -> None:
        budget, runtime = self.budget, self._services.runtime
        assert budget is not None
        await runtime.release(budget)
        deferred = [attempt for attempt in runtime.worker.live.values() if attempt.deferred]
        if deferred:
            # Their nodes' threads cannot be cancelled. Only the end of the process stops them, so it has to come
            # right after their runs were given away.
            await draining.settle_deferred(runtime, deferred, budget)
            self._log_report(deferred=True)
            self._leave()
        await self._services.database.close(budget.left())
        self._log_report()

    def _log_report(self, *, deferred: bool = False) -> None:
        report = self.report
        assert report is not None
        assert self.budget is not None
        if deferred:
            final = draining.report(
                self._services.runtime.worker.live.values(), self.budget, report["reason"]
            )
            settled = {run["run_id"]: run for run in final["runs"]}
            report["runs"] = [settled.get(run["run_id"], run) for run in report["runs"]]
            if not any(run["outcome"] == "left" for run in report["runs"]):
                self.exit_code = ExitCode.CLEAN
        report["took_ms"] = round(self.budget.spent_ms(), 1)
        level = logging.INFO if self.exit_code is ExitCode.CLEAN else logging.WARNING
        log.log(level, "drained", extra={"event": "drain.report", **report})

    def _watch(self, budget: Budget) -> None:
        """A node that blocks the event loop cannot push the stop past its deadline: then the process just leaves."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._timer = threading.Timer(budget.left() + OVERRUN_SECONDS, self._overrun)
        self._timer.daemon = True
        self._timer.name = "deadline"
        self._timer.start()

    def _overrun(self) -> None:
        log.error("the deadline has passed", extra={"event": "drain.overrun", "report": self.report})
        self.exit_code = ExitCode.RUNS_LEFT
        self._leave()

    def _leave(self) -> None:
        telemetry.flush()
        os._exit(self.exit_code)
