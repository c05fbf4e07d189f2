"""`slackwater doctor`: what would keep this project from being served, and what to do about it."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from slackwater.cli.options import AsJson, DatabaseUri, ProjectPath, print_json
from slackwater.errors import ExitCode, SettingsError, StartError

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graphs
    from slackwater.postgres.conninfo import Conninfo
    from slackwater.settings import Settings


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but perhaps not as it is meant."""
    FAILED = "failed"
    """`slackwater serve` would stop with this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Severity
    about: str
    text: str
    detail: str = ""
    """More lines, for whoever has to find the cause: a traceback."""
    exit_code: ExitCode = ExitCode.CLEAN

    @classmethod
    def failed(cls, about: str, error: StartError, detail: str = "") -> Finding:
        return cls(Severity.FAILED, about, error.message, detail, error.exit_code)


def doctor(
    project: ProjectPath = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address that `serve` would listen on.  [SLACKWATER_HOST; default: 127.0.0.1]"),
    ] = None,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, keys, graphs, database and schema, and say how to fix what is wrong.

    Changes nothing. The exit code is the one that `serve` would fail with, or 0 if
    it would start.
    """
    import asyncio

    from slackwater.settings import Settings

    try:
        settings = Settings.load(project=project, host=host, database_uri=database_uri)
    except SettingsError as error:
        findings = [Finding.failed("settings", error)]
    else:
        findings = asyncio.run(_examine(settings))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    raise typer.Exit(next((finding.exit_code for finding in findings if finding.exit_code), ExitCode.CLEAN))


def _print(findings: list[Finding]) -> None:
    from rich.console import Console

    # Rich finds an emoji in the middle of a secret's ARN.
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    styles = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.FAILED: "bold red"}
    for finding in findings:
        console.print(f"{finding.level:<9}", style=styles[finding.level], end="")
        console.print(f"{finding.about:<10}{finding.text}")
        for line in finding.detail.rstrip().splitlines():
            console.print(f"          {line}", style="dim")
    failed = sum(finding.level is Severity.FAILED for finding in findings)
    if failed:
        console.print(f"\n{failed} of these would keep `slackwater serve` from starting.")
    else:
        console.print("\n`slackwater serve` will start.")


async def _examine(settings: Settings) -> list[Finding]:
    return [
        *_stopping(settings),
        *[finding async for finding in _keys(settings)],
        *_graphs(settings),
        *[finding async for finding in _files(settings)],
        *[finding async for finding in _database(settings)],
    ]


def _stopping(settings: Settings) -> Iterator[Finding]:
    """That the settings load at all shows that the parts fit."""
    grace, drain, hard = settings.grace_seconds, settings.drain_reserve_seconds, settings.hard_reserve_seconds
    yield Finding(
        Severity.OK,
        "stopping",
        f"{grace:g} s from SIGTERM to the exit: {grace - drain:g} s for nodes to finish, then {drain - hard:g} s for "
        f"cancelled nodes to unwind and {hard:g} s to write states. The platform has to allow more than {grace:g} s "
        "(terminationGracePeriodSeconds, stopTimeout, TimeoutStopSec).",
    )


async def _keys(settings: Settings) -> AsyncIterator[Finding]:
    from slackwater.aws.secrets import with_secret_keys

    try:
        settings.check_bind(settings.host)
        settings = await with_secret_keys(settings)
    except SettingsError as error:
        yield Finding.failed("keys", error)
        return
    names = sorted({key.name for key in settings.api_keys})
    if names or settings.database_keys:
        stored = ["those in the database"] * settings.database_keys
        yield Finding(
            Severity.OK,
            "keys",
            f"{settings.host} is served to holders of these keys: {', '.join([*names, *stored])}.",
        )
    if settings.accounts:
        yield Finding(
            Severity.OK,
            "accounts",
            f"{settings.host} is served to users who log in; registration is {settings.registration}.",
        )
    if not (names or settings.database_keys or settings.accounts or settings.has_auth):
        yield Finding(
            Severity.OK,
            "keys",
            f"none: only this machine is served ({settings.host}), and all its users are one owner.",
        )


def _graphs(settings: Settings) -> Iterator[Finding]:
    from slackwater.graphs.registry import Graphs
    from slackwater.project.project import Project

    try:
        for warning in Project.read(settings.project).warnings:
            yield Finding(Severity.WARNING, "project", f"{warning}.")
        graphs = Graphs.load(settings.project)
    except StartError as error:
        detail = _trace(error)
        yield Finding.failed("graphs" if detail else "project", error, detail)
        return
    yield Finding(
        Severity.OK, "graphs", f"{', '.join(graphs.ids)} in {settings.project.resolve()} can be imported."
    )
    yield from _auth(settings, graphs)
    yield from _http(settings, graphs)
    yield from _gateway(settings, graphs)


def _auth(settings: Settings, graphs: Graphs) -> Iterator[Finding]:
    """Who may call, if the project says it."""
    if graphs.auth is None:
        return
    from slackwater.identity.custom.authenticator import CustomAuth

    source = graphs.auth.source
    try:
        CustomAuth(graphs.custom_auth(), source)
    except StartError as error:
        yield Finding.failed("auth", error, _trace(error))
        return
    yield Finding(Severity.OK, "auth", f"{settings.host} is served to whom {source} lets in.")


def _http(settings: Settings, graphs: Graphs) -> Iterator[Finding]:
    """What `http` of langgraph.json arranges."""
    from slackwater.project.http import HttpSpec
    from slackwater.web.middleware import cors, custom_app
    from slackwater.web.middleware.setup import custom_app_of, effective_spec

    spec = effective_spec(graphs.http, settings)
    if spec == HttpSpec():
        return
    try:
        own = custom_app_of(graphs)
    except StartError as error:
        yield Finding.failed("http", error, _trace(error))
        return
    parts = [f"{graphs.http.app.source} in front of the API"] if graphs.http.app else []
    parts += [f"everything under {spec.mount_prefix}"] if spec.mount_prefix else []
    parts += [f"without {', '.join(sorted(spec.disabled))}"] if spec.disabled else []
    if parts:
        yield Finding(Severity.OK, "http", f"{'; '.join(parts)}.")
    if own is not None:
        for warning in custom_app.warnings(own, ours=spec.cors is not None):
            yield Finding(Severity.WARNING, "http", warning)
    if spec.cors is not None and cors.trusts_anybody(spec.cors):
        yield Finding(Severity.WARNING, "http", cors.UNTRUSTED)
    if spec.cors is not None and cors.hides_runs(spec.cors):
        yield Finding(
            Severity.WARNING,
            "http",
            "cors does not list content-location in expose_headers: a page cannot tell which run it has started.",
        )


def _gateway(settings: Settings, graphs: Graphs) -> Iterator[Finding]:
    """What `gateway` of langgraph.json offers, and whether it can be had."""
    if not settings.gateway:
        return
    from slackwater.channels.configured import Channel
    from slackwater.webhooks.policy import Policy
    from slackwater.workspace.llm_models.built import build
    from slackwater.workspace.skills.public import read_public

    spec = graphs.gateway
    for model in spec.models:
        try:
            build(model)
        except SettingsError as error:
            yield Finding.failed("gateway", error)
        except (
            Exception
        ) as error:  # of the provider's package: anything. `serve` starts, and nobody gets an answer
            yield Finding(
                Severity.WARNING, "gateway", f"gateway.models: {model.name} cannot be used: {sentence(error)}"
            )
        else:
            yield Finding(Severity.OK, "gateway", f"gateway.models: {model.name} is {model.model}.")
    for channel in spec.channels:
        try:
            made = Channel.of(channel, Policy.of(graphs.webhooks), graphs.ids, graphs.http.disabled)
        except SettingsError as error:
            yield Finding.failed("gateway", error)
        else:
            yield Finding(
                Severity.OK,
                "gateway",
                f"gateway.channels: {made.name} starts runs of {made.assistant} for {made.owner}.",
            )
    if spec.skills is not None:
        try:
            skills = read_public(spec.skills)
        except SettingsError as error:
            yield Finding.failed("gateway", error)
        else:
            yield Finding(Severity.OK, "gateway", f"{len(skills)} skills are in {spec.skills}.")


async def _files(settings: Settings) -> AsyncIterator[Finding]:
    """Whether the store of files answers, and tells what is not there from what may not be read."""
    if not settings.gateway:
        return
    from uuid import uuid4

    from slackwater.aws.objects import blobs_of
    from slackwater.blobs.blobs import StoreSilent, new_key

    where = settings.blobs or (settings.data_dir / "blobs").resolve()
    blobs = blobs_of(settings)
    try:
        await blobs.size(new_key("", uuid4()))
    except StoreSilent as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        yield Finding(Severity.WARNING, "files", f"{where} does not answer: {sentence(cause)}")
    else:
        yield Finding(Severity.OK, "files", f"{where} answers.")
    finally:
        blobs.close()


def sentence(error: Exception) -> str:
    """What is wrong, in one line."""
    if isinstance(error, ModuleNotFoundError) and error.name == "langchain":
        return "langchain is not installed: pip install 'slackwater[models]'."
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _trace(error: StartError) -> str:
    cause = error.__cause__
    return "".join(traceback.format_exception(cause)) if cause is not None else ""


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    from slackwater.cli.database import embedded_exists, server_of
    from slackwater.postgres import schema
    from slackwater.postgres.binaries import find_binaries

    try:
        if not settings.has_database and not embedded_exists(settings):
            find_binaries(settings.postgres_bin)
            where = (settings.data_dir / "postgres").resolve()
            yield Finding(Severity.OK, "database", f"embedded: `slackwater serve` creates it in {where}.")
            return
        async with server_of(settings) as conninfo:
            status = await schema.status(conninfo)
            place = settings.redacted_database()
            yield Finding(Severity.OK, "database", f"{place} answers: Postgres {status.server}.")
            async for finding in _connections(settings, conninfo):
                yield finding
    except StartError as error:
        yield Finding.failed("database", error)
        return
    refusal = status.refuse()
    if refusal is None:
        yield Finding(Severity.OK, "schema", f"up to date ({status.known[-1]}).")
        async for finding in _signing(settings):
            yield finding
        async for finding in _configuration(settings):
            yield finding
    elif not settings.has_database:
        yield Finding(
            Severity.OK,
            "schema",
            "not up to date: `slackwater serve` migrates the embedded server itself.",
        )
    else:
        yield Finding.failed("schema", refusal)


async def _signing(settings: Settings) -> AsyncIterator[Finding]:
    """Whether the keys of our tokens can be read here, and by nobody else."""
    from slackwater.aws.secrets import encryption_of
    from slackwater.cli.database import open_database
    from slackwater.identity.signing import rotation
    from slackwater.identity.signing.encryption import UNENCRYPTED, unreadable

    if not settings.signs_tokens:
        return
    try:
        encryption = await encryption_of(settings)
        async with open_database(settings) as database:
            keys = await rotation.list_(database)
    except StartError as error:
        yield Finding.failed("signing", error)
        return
    if any(key["sealed_by"] not in (None, *encryption.keys) for key in keys):
        yield Finding.failed("signing", SettingsError(unreadable(encryption)))
    elif encryption.first is None and (keys or settings.accounts):
        yield Finding(Severity.WARNING, "signing", UNENCRYPTED)
    elif encryption.first is not None:
        yield Finding(Severity.OK, "signing", "`serve` encrypts the keys that sign tokens in the database.")


async def _configuration(settings: Settings) -> AsyncIterator[Finding]:
    """What is laid over the `gateway` of langgraph.json, and whether it can be used here."""
    from slackwater.cli.database import open_database
    from slackwater.project.project import Project
    from slackwater.workspace.configuration import service

    if not settings.gateway:
        return
    try:
        async with open_database(settings) as database:
            stored = await service.read(database)
        service.usable(Project.read(settings.project).gateway, stored.value)
    except SettingsError as error:
        yield Finding(
            Severity.WARNING,
            "gateway",
            f"what `slackwater config` has set cannot be used here: {error.message}",
        )
    except StartError as error:
        yield Finding.failed("gateway", error)
    else:
        if stored.version:
            keys = ", ".join(stored.value) or "nothing"
            yield Finding(
                Severity.OK, "gateway", f"`slackwater config` lays {keys} over it (version {stored.version})."
            )


async def _connections(settings: Settings, conninfo: Conninfo) -> AsyncIterator[Finding]:
    """What stands between us and the server, and how much of it we may use."""
    from slackwater.cli import queries
    from slackwater.postgres.pool import Database
    from slackwater.postgres.schema import is_pooled

    pooled = await is_pooled(conninfo)
    if pooled and settings.wake == "listen":
        yield Finding(
            Severity.WARNING,
            "database",
            "connections go through a transaction pooler, which delivers no notifications: set SLACKWATER_WAKE=poll.",
        )
    if pooled and settings.migration_database_uri is None:
        yield Finding(
            Severity.WARNING,
            "database",
            "connections go through a transaction pooler: set SLACKWATER_MIGRATION_DATABASE_URI to a direct connection, "
            "which `slackwater migrate` needs.",
        )
    if pooled:
        return
    database = Database(conninfo, max_size=2, statement_seconds=settings.statement_seconds, name="doctor")
    await database.open()
    try:
        facts = await queries.server_facts(database)
    finally:
        await database.close(1.0)
    wanted = settings.pool_max_size + (settings.wake == "listen")
    free = facts["max_connections"] - facts["connections"]
    if wanted > free:
        yield Finding(
            Severity.WARNING,
            "database",
            f"a process may use {wanted} connections, but only {free} of the server's {facts['max_connections']} are free: "
            "lower SLACKWATER_POOL_MAX_SIZE, raise max_connections, or use a pooler.",
        )
