"""The lifespan of a process: open → serve → drain → release, in that order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from slackwater import telemetry
from slackwater.api.assistants import service as assistants
from slackwater.api.crons.fire import fire_due
from slackwater.aws.database import conninfo_of
from slackwater.aws.secrets import encryption_of, with_secret_keys
from slackwater.aws.wakeups import waker_of
from slackwater.errors import SchemaError, StartError
from slackwater.graphs.registry import Graphs
from slackwater.identity.audit import service as audit
from slackwater.identity.audit.refusals import Refusals
from slackwater.identity.credentials import open_credentials
from slackwater.identity.limits import service as limits
from slackwater.identity.limits.requests import RequestLimits
from slackwater.kit.imports import imports_are_lazy, run_in_import_thread
from slackwater.postgres import schema
from slackwater.postgres.pool import Database
from slackwater.runtime.execution.outbox import Outbox, Outboxes
from slackwater.runtime.process.signals import StopSignals
from slackwater.runtime.process.stop import Stop
from slackwater.runtime.runtime import Runtime
from slackwater.services import Services
from slackwater.settings import Settings
from slackwater.web.application import Application
from slackwater.web.bodies import RESPONSES_BYTES, ByteQuota, body_quota
from slackwater.web.in_process import InProcess, offer_to_sdk
from slackwater.web.middleware import setup
from slackwater.webhooks.delivery import Deliveries
from slackwater.webhooks.policy import Policy
from slackwater.webhooks.signature import key_of

if TYPE_CHECKING:
    from slackwater.blobs.blobs import Blobs
    from slackwater.channels.configured import Channel
    from slackwater.identity.custom.authenticator import CustomAuth
    from slackwater.identity.signing.encryption import Encryption
    from slackwater.identity.signing.service import Signing
    from slackwater.runtime.execution.node_mcp import NodeMcp
    from slackwater.runtime.execution.node_memory import NodeMemory
    from slackwater.runtime.execution.node_skills import NodeSkills
    from slackwater.webhooks.chat import Chats
    from slackwater.workspace.configuration.watch import ConfigurationWatch
    from slackwater.workspace.llm_models.built import ChatModels
    from slackwater.workspace.mcp_servers.kept import KeptMcpConfig
    from slackwater.workspace.memory.updates import MemoryUpdates
    from slackwater.workspace.skills.public import PublicSkill


class LifespanState(TypedDict):
    """The ASGI lifespan state."""

    services: Services


@asynccontextmanager
async def lifespan(app: Application) -> AsyncIterator[LifespanState]:
    """Open → serve → drain → release."""
    try:
        settings = app.state.settings or Settings.load()
        telemetry.configure(settings)
        with StopSignals() as signals:
            offer_to_sdk()
            async with open_services(settings) as services, _installed(app, services) as custom_app:
                app.own_security = services.graphs.auth.openapi if services.graphs.auth else {}
                services.in_process.open(app.behind_the_middleware(), services)
                # Not earlier: graphs may rely on what the custom app sets up.
                if not imports_are_lazy():
                    await services.graphs.warm()
                await services.runtime.start()
                if services.configuration is not None and not services.settings.on_lambda:
                    services.configuration.watch()  # there each invocation looks
                # From here on there may be runs to drain: no await before the stop is set up.
                stop = app.state.stop = services.stop

                async def drain(reason: str) -> None:
                    stop.leaves = True
                    await stop.drain(reason)
                    custom_app.abort_soon()

                async def leave(seconds: float) -> None:
                    until = time.monotonic() + seconds
                    await asyncio.gather(
                        services.refusals.stop(seconds),
                        services.requests.open.stop(seconds),
                        custom_app.shutdown(seconds),
                    )
                    await services.in_process.close(until - time.monotonic())

                signals.started(drain)
                try:
                    yield {"services": services}
                finally:
                    await stop.release(leave)
    except StartError as error:
        app.state.start_error = error  # the server itself only learns that the start failed
        telemetry.start_failed(error, log_it=app.state.settings is None)
        raise


@asynccontextmanager
async def _installed(app: Application, services: Services) -> AsyncIterator[setup.CustomAppHandle]:
    """The routes and the middleware that the settings and the project ask for."""
    app.serve(services.features)
    async with setup.installed(app, services) as custom_app:
        yield custom_app


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open everything that the process needs, in order. Raises StartError if it cannot serve."""
    async with AsyncExitStack() as stack:
        settings = await with_secret_keys(settings)
        settings.check_lambda()
        graphs = await run_in_import_thread(lambda: Graphs.load(settings.project, lazy=settings.on_lambda))
        chat_models = await _chat_models(settings, graphs, stack)
        public_skills = await _public_skills(settings, graphs)
        auth = await run_in_import_thread(partial(_auth_of, graphs)) if graphs.auth else None
        if auth is not None:
            stack.callback(auth.close)
        webhooks = Policy.of(graphs.webhooks)
        channels = _channels(settings, graphs, webhooks)
        webhook_key = key_of(settings.webhook_secret) if settings.webhook_secret else None
        index = graphs.store_spec.index
        dims = index.dims if index else None
        conninfo = conninfo_of(settings) or await _embedded(settings, stack, dims)
        database = Database(
            conninfo,
            max_size=settings.pool_max_size,
            statement_seconds=settings.statement_seconds,
            name=f"serve {os.getpid()}",
            prepare=settings.prepare,
        )
        # Before the pool connects: it would only log the same error again and again.
        await schema.check(database)
        if dims is not None:
            await schema.check_vectors(database, dims)
        await database.open()
        stack.push_async_callback(database.close, settings.hard_reserve_seconds)
        stack.push_async_callback(graphs.close, settings.hard_reserve_seconds)
        outbox: Outbox = Deliveries(database, webhooks, webhook_key, _posts(database, channels))
        memory = _memory_updates(database, graphs, chat_models) if chat_models is not None else None
        if memory is not None:
            outbox = Outboxes(outbox, memory)
        in_process = InProcess()
        runtime = Runtime(settings, database, graphs, waker_of(settings), outbox, in_process)
        configuration = None
        if settings.gateway:
            configuration = await _configuration(database, graphs, runtime, stack)
            runtime.node_memory = _node_memory(database, graphs)
            runtime.node_skills = _node_skills(database, public_skills)
        bodies = body_quota(settings.max_body_bytes)
        encryption = await encryption_of(settings) if settings.signs_tokens or settings.gateway else None
        ours = await open_credentials(
            settings, database, encryption if settings.signs_tokens else None, stack, runtime.sweep_also
        )
        mcp_config = await _mcp_config(database, encryption) if settings.gateway and encryption else None
        if mcp_config is not None:
            runtime.node_mcp = _node_mcp(settings, database, mcp_config, ours.signing, stack)
        services = Services(
            settings,
            database,
            graphs,
            runtime,
            Stop(settings, runtime),
            webhooks,
            bodies,
            ByteQuota(RESPONSES_BYTES),
            in_process,
            RequestLimits(
                database, settings.max_requests_per_minute_per_owner, settings.max_streams_per_owner
            ),
            Refusals(database),
            ours.keys,
            ours.signing,
            auth,
            ours.accounts,
            ours.sessions,
            setup.listed_origins(graphs.http, settings),
            ours.oidc,
            chat_models,
            await _blobs(settings, database, stack, runtime) if settings.gateway else None,
            public_skills,
            configuration,
            channels,
            mcp_config,
        )
        runtime.sweep_also("limits", partial(limits.trim, database))
        runtime.sweep_also("crons", partial(fire_due, services))
        runtime.sweep_also("audit", partial(audit.trim, database, settings.audit_retention_days))
        if memory is not None:
            runtime.sweep_also("memory", memory.sweep)
        if channels:
            from slackwater.channels import queries as deliveries

            runtime.sweep_also("channels", partial(deliveries.trim, database))
        await assistants.register(services)
        yield services


async def _chat_models(settings: Settings, graphs: Graphs, stack: AsyncExitStack) -> ChatModels | None:
    """What builds the models of the gateway. Raises SettingsError if the environment lacks something that one is built with."""
    if not settings.gateway:
        return None
    from slackwater.workspace.llm_models.built import ChatModels

    for model in graphs.gateway.models:
        model.arguments()
    models = ChatModels()
    stack.push_async_callback(models.close)
    return models


async def _configuration(
    database: Database, graphs: Graphs, runtime: Runtime, stack: AsyncExitStack
) -> ConfigurationWatch:
    """What administrators have laid over the project's `gateway`, in force from the first request on."""
    from slackwater.workspace.configuration.watch import ConfigurationWatch

    configuration = ConfigurationWatch(database, graphs, runtime.worker_id)
    stack.push_async_callback(configuration.stop)
    await configuration.open()
    return configuration


async def _public_skills(settings: Settings, graphs: Graphs) -> Mapping[str, PublicSkill]:
    """The skills of the project. Raises SettingsError for what is none."""
    folder = graphs.gateway.skills
    if not settings.gateway or folder is None:
        return {}
    from slackwater.workspace.skills.public import read_public

    return await run_in_import_thread(partial(read_public, folder))


def _channels(settings: Settings, graphs: Graphs, policy: Policy) -> Mapping[str, Channel]:
    """By which others start runs without a key. Raises SettingsError for what could not be."""
    if not settings.gateway or not graphs.gateway.channels:
        return {}
    from slackwater.channels.configured import channels_of

    return channels_of(graphs.gateway.channels, policy, graphs.ids, graphs.http.disabled)


def _posts(database: Database, channels: Mapping[str, Channel]) -> Chats | None:
    """What tells the chats among them."""
    if not channels:
        return None
    from slackwater.channels.posts import Posts

    return Posts(database, channels)


def _auth_of(graphs: Graphs) -> CustomAuth:
    """The project's own authentication. Takes long: its modules are imported. Raises GraphImportError."""
    from slackwater.identity.custom.authenticator import CustomAuth

    assert graphs.auth is not None
    return CustomAuth(graphs.custom_auth(), graphs.auth.source)


async def _blobs(settings: Settings, database: Database, stack: AsyncExitStack, runtime: Runtime) -> Blobs:
    """Where the bytes of files are, the sweep of those that no file has, and the files of nodes. Raises SettingsError."""
    from slackwater.aws.objects import blobs_of
    from slackwater.blobs.sweep import sweep
    from slackwater.workspace.node_files.service import FilesOfRuns

    blobs = blobs_of(settings)
    stack.callback(blobs.close)
    runtime.sweep_also("blobs", partial(sweep, database, blobs))
    runtime.node_files = files = FilesOfRuns(database, blobs, settings.max_file_bytes_per_owner)
    if settings.home_dir is not None:
        from slackwater.workspace.home.place import HomePlace
        from slackwater.workspace.home.service import Homes

        place = HomePlace(settings.home_dir)
        stack.callback(place.release)
        await asyncio.to_thread(place.claim)
        files.homes = Homes(files, place, looks=not settings.on_lambda)
    return blobs


def _memory_updates(database: Database, graphs: Graphs, chat_models: ChatModels) -> MemoryUpdates:
    """What finds out what is to be remembered of what was said."""
    from slackwater.workspace.memory.updates import MemoryUpdates

    return MemoryUpdates(database, lambda: graphs.gateway_of_runs, chat_models)


def _node_memory(database: Database, graphs: Graphs) -> NodeMemory:
    """What nodes are given of their owners' memories."""
    from slackwater.workspace.memory.of_runs import MemoryOfRuns

    return MemoryOfRuns(database, lambda: graphs.gateway_of_runs)


def _node_skills(database: Database, public: Mapping[str, PublicSkill]) -> NodeSkills:
    """What nodes are given of their owners' skills."""
    from slackwater.workspace.skills.of_runs import SkillsOfRuns

    return SkillsOfRuns(database, public)


async def _mcp_config(database: Database, encryption: Encryption) -> KeptMcpConfig:
    """The MCP servers that graphs have tools of."""
    from slackwater.workspace.mcp_servers.kept import KeptMcpConfig

    config = KeptMcpConfig(database, encryption)
    await config.open()
    return config


def _node_mcp(
    settings: Settings,
    database: Database,
    config: KeptMcpConfig,
    signing: Signing | None,
    stack: AsyncExitStack,
) -> NodeMcp:
    """What nodes are given of MCP servers."""
    from slackwater.workspace.mcp_servers.catalog import McpCatalog
    from slackwater.workspace.mcp_servers.of_runs import McpOfRuns

    catalog = McpCatalog(config, settings.mcp_commands, settings.mcp_variables)
    stack.push_async_callback(catalog.close, settings.hard_reserve_seconds)
    return McpOfRuns(database, catalog, signing)


async def _embedded(settings: Settings, stack: AsyncExitStack, dims: int | None) -> str:
    """Start or share the embedded server, and migrate it, as nobody else does."""
    if settings.on_lambda:
        raise SchemaError(
            "On AWS Lambda there is no embedded server: set SLACKWATER_DATABASE_URI or SLACKWATER_DATABASE_SECRET_ARN."
        )
    from slackwater.postgres.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(settings.data_dir, bindir=settings.postgres_bin)
    conninfo = await asyncio.to_thread(server.start)
    stack.callback(server.release)
    await schema.migrate(conninfo, dims, table_lock_seconds=settings.lease_seconds / 10)
    return conninfo
