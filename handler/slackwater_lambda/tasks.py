"""Tasks: requests without HTTP, from a schedule, a queue, the function itself or a person. Each may be delivered twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from slackwater.errors import SchemaError, SettingsError, SlackwaterError
from slackwater.identity.principal import SYSTEM_OWNER, Principal
from slackwater_lambda.events import UnknownEvent

if TYPE_CHECKING:
    from slackwater.services import Services
    from slackwater_lambda.environment import Environment
    from slackwater_lambda.invocation import Invocation


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Work(_Task):
    """Claim runs that are ready: another environment has handed them over."""

    task: Literal["work"] = "work"


class Sweep(_Task):
    """Take over runs of dead environments, release delayed runs, apply retention; then work."""

    task: Literal["sweep"] = "sweep"


class Migrate(_Task):
    """Bring the schema up to date, from inside the database's network."""

    task: Literal["migrate"] = "migrate"


class Configure(_Task):
    """Show what is laid over `gateway` of langgraph.json, or change it: `slackwater config`, from inside the database's network."""

    task: Literal["config"] = "config"
    change: dict[str, Any] | None = None
    """What is laid over it. Delivered twice, it changes nothing more."""
    version: int | None = None
    """Only if it still has this version."""


class StartRun(BaseModel):
    """Start a run. Other keys are those of `POST /runs` or, with a thread, of `POST /threads/{id}/runs`."""

    model_config = ConfigDict(extra="allow")

    task: Literal["run"] = "run"
    id: str = Field("", max_length=200)
    """The id of the event: however often it is delivered, one run is started. By default the invocation's request id."""
    owner: str = Field(SYSTEM_OWNER, min_length=1)
    assistant_id: str
    thread_id: str | None = None


Task = Annotated[Work | Sweep | Migrate | Configure | StartRun, Field(discriminator="task")]

Message = Annotated[Work | Sweep, Field(discriminator="task")]
"""The tasks that a queue may carry. Permission to write to it is not permission to start runs, for any owner, or to migrate."""

_TASKS: TypeAdapter[Task] = TypeAdapter(Task)
_MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)


class WrongTask(SlackwaterError):
    """The task makes no sense as it is."""


class RefusedMessage(SlackwaterError):
    """A message of the queue says {"task": "work"} or {"task": "sweep"}, and nothing else. Other tasks are for who may invoke the function."""


def parse(event: Mapping[str, Any]) -> Task:
    """The task that an event asks for. Raises UnknownEvent and WrongTask."""
    if "task" not in event:
        if event.get("source") == "aws.events":
            return Sweep()
        raise UnknownEvent
    try:
        return _TASKS.validate_python(dict(event))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WrongTask(f"{where or 'task'}: {first['msg']}") from None


def parse_message(body: str) -> Work | Sweep:
    """What a message of the queue asks for. Raises RefusedMessage."""
    try:
        return _MESSAGES.validate_json(body)
    except ValidationError:
        raise RefusedMessage from None


def perform(environment: Environment, invocation: Invocation, event: Mapping[str, Any]) -> dict[str, Any]:
    """Perform the task and work inline on what is ready. Returns the invocation's result."""
    task = parse(event)
    if isinstance(task, Migrate):
        # Without the lifespan, which refuses to open on an old schema.
        return {"task": task.task, "applied": environment.run(_migrate(), invocation.left())}
    environment.open(invocation)
    event_id = str(event.get("id") or invocation.request_id)
    try:
        done = environment.run(begin(environment.services, task, event_id), invocation.left())
    except Exception:
        if isinstance(task, Sweep):  # a failed sweep does not keep ready runs waiting
            environment.run(invocation.work(), invocation.left())
        raise
    environment.run(invocation.work(), invocation.left())
    return {"task": task.task, **done}


async def _migrate() -> list[str]:
    from slackwater.aws.database import conninfo_of
    from slackwater.postgres import schema
    from slackwater.project.project import store_of
    from slackwater.settings import Settings

    settings = Settings.load()
    conninfo = conninfo_of(settings, settings.migration_database_uri)
    if conninfo is None:
        raise SchemaError(
            "There is no database: set SLACKWATER_DATABASE_URI or SLACKWATER_DATABASE_SECRET_ARN."
        )
    index = store_of(settings.project).index
    return await schema.migrate(
        conninfo, index.dims if index else None, table_lock_seconds=settings.lease_seconds / 10
    )


async def begin(services: Services, task: Task, event_id: str) -> dict[str, Any]:
    """Perform the task itself; `invocation.work` executes runs afterwards. Returns the task's part of the result."""
    match task:
        case StartRun():
            return await _start(services, task, event_id)
        case Sweep():
            return {"taken_over": await services.runtime.sweep()}
        case Configure():
            return await _configure(services, task)
        case _:
            return {}


async def _configure(services: Services, task: Configure) -> dict[str, Any]:
    from slackwater.workspace.configuration import service

    if services.configuration is None:
        raise WrongTask("There is nothing to configure: the function needs SLACKWATER_GATEWAY=true.")
    if task.change is None:
        stored = await service.read(services.database)
    else:
        try:
            stored = await service.change(
                services.database, services.graphs.own_gateway, task.change, version=task.version
            )
        except SettingsError as error:
            raise WrongTask(error.message) from None
        await services.configuration.check()
    troubles = await service.troubles(services.database)
    return {**stored.shown, "troubles": [{**row, "said_at": row["said_at"].isoformat()} for row in troubles]}


async def _start(services: Services, task: StartRun, event_id: str) -> dict[str, Any]:
    from slackwater.api.runs import service
    from slackwater.api.runs.models import RunCreate
    from slackwater.runtime.queue.admission import RunForgotten

    try:
        body = RunCreate.model_validate({**(task.model_extra or {}), "assistant_id": task.assistant_id})
    except ValidationError as error:
        first = error.errors()[0]
        raise WrongTask(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    try:
        created = await service.create(
            services,
            Principal(task.owner),
            task.thread_id,
            body,
            idempotency_key=f"event:{task.id or event_id}",
        )
    except RunForgotten:  # redelivered after its run ended and was deleted: done, not an error
        return {"run_id": None, "thread_id": None}
    return {"run_id": str(created.run_id), "thread_id": str(created.thread_id)}
