"""What administrators change while processes run: no restart, nothing half, nobody's change lost (1.1, config freshness)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from psycopg import OperationalError

from slackwater.errors import ConfigurationChanged, SettingsError
from slackwater.postgres.pool import Database
from slackwater.project.gateway import GatewaySpec
from slackwater.workspace.configuration import queries, service, watch
from slackwater.workspace.llm_models.built import ChatModels
from slackwater_lambda import tasks
from tests.support.api import Api
from tests.support.command import Answer, run_command, settings_only
from tests.support.forkserver import fork_server

GRAPHS = Path(__file__).parents[2] / "graphs"
FAST = {"name": "fast", "model": "openai:gpt-5-mini"}
SLOW = {"name": "slow", "model": "openai:gpt-5", "args": {"api_key": "$ONLY_ELSEWHERE"}}
LIMITS = "/api/threads/6f1bbd4c-0c9f-4d41-9a51-3a0cbb5b6c11/uploads/limits"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    content = {
        "dependencies": [str(GRAPHS)],
        "graphs": {"echo": f"{GRAPHS}/graphs.py:echo"},
        "gateway": {"models": [FAST], "uploads": {"max_files": 5, "max_file_size": 100}},
    }
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def config(project: Path, database_uri: str) -> Callable[..., Answer]:
    """Runs `slackwater config ARGUMENTS` where the project is."""
    return lambda *arguments: run_command(project, "config", *arguments, SLACKWATER_DATABASE_URI=database_uri)


@pytest.fixture
async def two(
    serve: Callable[..., Any], project: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Api, Api]]:
    """Two servers that look often."""
    assert watch.CHECK_SECONDS < 10
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.05)
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(serve(gateway=True, project=project)) for _ in range(2)]
        yield one, other


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await holds():
            await asyncio.sleep(0.01)


def at(*apis: Api, version: int) -> Callable[[], Awaitable[bool]]:
    """Whether they have seen it."""

    async def holds() -> bool:
        return all(api.services.configuration.version == version for api in apis)  # type: ignore[union-attr]

    return holds


async def test_a_change_is_in_force_in_all_processes_without_a_restart(
    two: tuple[Api, Api],
    config: Callable[..., Answer],
    project: Path,
    database_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C1: set, refused, unusable here, and usable again, with what each of two servers answers meanwhile."""
    clients = [api.client() for api in two]
    own = {"max_files": 5, "max_file_size": 100, "max_total_size": 104857600}

    async def limits() -> list[Any]:
        return [(await client.get(LIMITS)).json() for client in clients]

    async def models(name: str) -> list[int]:
        return [(await client.get(f"/api/models/{name}")).status_code for client in clients]

    assert await limits() == [own, own]
    assert config("show").out == "Nothing is laid over langgraph.json.\n"

    # WHEN something is set, THEN both have it, and what it does not name is as in the file
    answer = await asyncio.to_thread(config, "set", json.dumps({"uploads": {"max_files": 3}}), "--json")
    assert (answer.json["version"], answer.json["value"]) == (1, {"uploads": {"max_files": 3}})
    await until(at(*two, version=1))
    assert await limits() == [{**own, "max_files": 3}] * 2

    # WHEN it makes no sense, THEN it is refused, and nothing is written
    for change, sentence in {
        '{"uploads": {"max_files": 0}}': "gateway.uploads.max_files: Input should be greater",
        "[]": "[] cannot be read",
        "{": "The change is no JSON",
    }.items():
        answer = await asyncio.to_thread(config, "set", change)
        assert (answer.code, sentence in answer.sentence) == (2, True), answer
    for wrong, sentence in (
        ({"uplaods": {}}, "gateway.uplaods cannot be changed at run time"),
        ({"skills": "./elsewhere"}, "gateway.skills cannot be changed at run time"),
        ({"suggestions": {"model": "slow"}}, "'slow' is none of gateway.models: fast"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            await service.change(two[0].database, two[0].services.graphs.own_gateway, wrong)
    assert (await service.read(two[0].database)).version == 1

    # WHEN one cannot use it, as its environment lacks something, THEN it keeps the last good one, and says so
    monkeypatch.delenv("ONLY_ELSEWHERE", raising=False)
    answer = await asyncio.to_thread(
        config, "set", json.dumps({"models": [FAST, SLOW], "uploads": {"max_files": 4}}), "--version", 1
    )
    assert answer.code == 0
    await until(at(*two, version=2))
    assert await limits() == [{**own, "max_files": 3}] * 2
    assert await models("fast") == [200, 200]
    # AND what may be there elsewhere is not said to be unknown
    assert await models("slow") == [503, 503]
    run = {"assistant_id": "echo", "context": {"model_name": "slow"}, "input": {}}
    answers = [await client.post("/api/runs/wait", json=run) for client in clients]
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "1")] * 2
    assert "Configuration not available" in answers[0].json()["detail"]

    async def both_have_said_so() -> bool:
        return [row["processes"] for row in await service.troubles(two[0].database)] == [2]

    await until(both_have_said_so)
    shown = await asyncio.to_thread(config, "show")
    assert "2 processes cannot use it" in shown.out
    assert "slow: the environment has no ONLY_ELSEWHERE" in shown.out
    checked = await asyncio.to_thread(config, "check")
    assert (checked.code, "ONLY_ELSEWHERE" in checked.sentence) == (2, True)
    examined = await asyncio.to_thread(
        run_command, project, "doctor", SLACKWATER_DATABASE_URI=database_uri, SLACKWATER_GATEWAY="true"
    )
    assert "what `slackwater config` has set cannot be used here: gateway.models: slow" in examined.out

    # WHEN a process starts then, THEN it has no last good one, and answers 503 where it needs one, and only there
    services = two[0].services
    services.graphs.cannot_put_in_force(keeps=False)
    assert (await clients[0].get(LIMITS)).status_code == 503
    assert (await clients[0].get("/api/models")).status_code == 503
    assert (await clients[0].post("/api/threads", json={})).status_code == 200
    assert services.graphs.gateway_of_runs.uploads.max_files == 5

    # WHEN it is taken away again, THEN all is well
    answer = await asyncio.to_thread(config, "set", json.dumps({"models": None}))
    assert answer.code == 0
    await until(at(*two, version=3))
    assert await limits() == [{**own, "max_files": 4}] * 2
    assert await models("slow") == [404, 404]
    assert await service.troubles(two[0].database) == []

    # AND all of it was audited, without what it was
    audited = await two[0].database.fetch(
        "select subject, via, detail from slackwater.audit where action = 'configuration.changed' order by audit_id"
    )
    assert [tuple(row.values()) for row in audited] == [
        ("1", "command", "uploads"),
        ("2", "command", "models, uploads"),
        ("3", "command", "models"),
    ]


OWN = GatewaySpec(models=({"name": "fast", "model": "x"},))  # type: ignore[arg-type]


async def test_of_two_administrators_at_once_one_is_told(
    api: Api, config: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the same version; and one who says which one they have read is told at once."""
    database = api.database
    read, both = queries.read, asyncio.Barrier(2)

    async def read_together(of: Database) -> Any:
        row = await read(of)
        await both.wait()
        return row

    monkeypatch.setattr(queries, "read", read_together)
    results = await asyncio.gather(
        *(service.change(database, OWN, {"uploads": {"max_files": n}}) for n in (1, 2)),
        return_exceptions=True,
    )
    monkeypatch.undo()
    (stored,) = [result for result in results if isinstance(result, service.StoredConfiguration)]
    assert [type(result) for result in results if result is not stored] == [ConfigurationChanged]
    assert await service.read(database) == stored
    assert stored.version == 1

    answer = await asyncio.to_thread(config, "set", '{"uploads": {"max_files": 9}}', "--version", "0")
    assert answer.code == 1
    assert answer.sentence.startswith(
        "The configuration has version 1 and not 0: somebody else has changed it"
    )
    assert await service.read(database) == stored


async def test_a_change_that_is_killed_is_whole_or_not_there(
    database: Database, project: Path, database_uri: str
) -> None:
    """SIGKILL while its statement waits for a lock."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        await killed(database, project, database_uri, nowhere)
    finally:
        os.close(nowhere)
    stored = await service.read(database)
    audited = await database.fetch("select 1 from slackwater.audit where action = 'configuration.changed'")
    assert (stored.version, stored.value) in [(0, {}), (1, {"uploads": {"max_files": 2}})]
    assert len(audited) == stored.version
    # THEN the next one is whole, too
    after = await service.change(database, OWN, {"uploads": {"max_file_size": 7}})
    assert after.version == stored.version + 1
    assert after.value["uploads"]["max_file_size"] == 7


async def killed(database: Database, project: Path, database_uri: str, nowhere: int) -> None:
    """Kill a command while it waits for the row, and wait until its server has decided what becomes of the statement."""

    backends: list[Any] = []

    async def waits() -> bool:
        backends[:] = [row["pid"] for row in await database.fetch(_WAITING)]
        return bool(backends)

    async def is_gone() -> bool:
        return not await database.fetch(
            "select 1 from pg_stat_activity where pid = any(%(pids)s)", {"pids": backends}
        )

    async with database.pool.connection() as other, other.transaction():
        await other.execute("select 1 from slackwater.configuration for update")
        process = await asyncio.to_thread(
            fork_server().fork,
            ["config", "set", '{"uploads": {"max_files": 2}}'],
            cwd=project,
            env=settings_only(project, SLACKWATER_DATABASE_URI=database_uri),
            stdout=nowhere,
            stderr=nowhere,
        )

        await until(waits)
        process.kill()
    await until(is_gone)


_WAITING = """
select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%slackwater.configuration%'"""


async def test_a_process_that_starts_begins_with_what_is_stored(
    serve: Callable[..., Any], project: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C2: or, if it cannot use that, with nothing: the file may allow more than was meant."""
    await service.change(database, OWN, {"uploads": {"max_files": 2}})
    async with serve(gateway=True, project=project) as api:
        assert (await api.client().get(LIMITS)).json()["max_files"] == 2
        # AND it asks the database for nothing as long as it has asked lately
        before = api.services.configuration._asked
        await api.services.configuration.refresh()
        assert api.services.configuration._asked is before
        # AND a task sets it, from inside the network
        done = await tasks.begin(
            api.services, tasks.parse({"task": "config", "change": {"uploads": {"max_files": 4}}}), "e"
        )
        assert (done["version"], done["value"], done["troubles"]) == (2, {"uploads": {"max_files": 4}}, [])
        assert (await api.client().get(LIMITS)).json()["max_files"] == 4
        assert await tasks.begin(api.services, tasks.parse({"task": "config"}), "e") == done
        with pytest.raises(tasks.WrongTask, match="nothing cannot be changed at run time"):
            await tasks.begin(api.services, tasks.Configure(change={"nothing": 1}), "e")
        with pytest.raises(ConfigurationChanged):
            await tasks.begin(api.services, tasks.Configure(change={}, version=1), "e")
        # AND a failover that forgets a version, whose number another has by then, deceives nobody
        await database.execute(
            'update slackwater.configuration set changed_at = clock_timestamp(), value = \'{"uploads": {"max_files": 6}}\''
        )
        await api.services.configuration.check()
        assert (await api.client().get(LIMITS)).json()["max_files"] == 6
    # A newer version has keys that this one does not know
    await database.execute(
        'update slackwater.configuration set version = 9, value = \'{"models": {"v2": 1}}\''
    )
    async with serve(gateway=True, project=project) as api:
        client = api.client()
        assert (await client.get(LIMITS)).status_code == 503
        assert (await client.get("/api/memory")).status_code == 200
        assert (await client.get("/ready")).status_code == 200
        await service.change(database, OWN, {"models": None})
        await api.services.configuration.check()
        assert (await client.get(LIMITS)).json()["max_files"] == 5
        # WHEN the database is away just when the process says that it cannot use a version, THEN it says so later
        await database.execute(
            'update slackwater.configuration set version = 20, value = \'{"models": {"v2": 1}}\''
        )

        async def unavailable(*_: Any) -> None:
            raise OperationalError

        with monkeypatch.context() as patched:
            patched.setattr(queries, "say_trouble", unavailable)
            await api.services.configuration.check()
        assert await service.troubles(database) == []
        for _ in range(2):
            await api.services.configuration.check()
        assert [row["processes"] for row in await service.troubles(database)] == [1]


async def test_a_model_that_was_configured_anew_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY_ELSEWHERE", "sk-test")
    models = ChatModels()
    one = OWN.changed_by({"models": [{**SLOW, "name": "fast"}]}).models[0]
    other = one.model_copy(update={"model": "openai:gpt-5-mini"})
    built = await models.get(one)
    assert await models.get(one.model_copy()) is built
    anew: Any = await models.get(other)
    assert anew is not built
    assert anew.model_name == "gpt-5-mini"
    await models.close()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"api_key": "sk-123"}, "fast: args.api_key: write $NAME"),
        ({"default_headers": {"Authorization": "Bearer x"}}, "args.default_headers.Authorization: write"),
        ({"base_url": "${SLACKWATER_ENCRYPTION_KEY}"}, "SLACKWATER_ENCRYPTION_KEY is not for models"),
        ({"base_url": ["$AWS_SECRET_ACCESS_KEY"]}, "AWS_SECRET_ACCESS_KEY is not for models"),
        ({"base_url": "$CHANNEL_SECRET"}, "CHANNEL_SECRET is not for models"),
        ({"base_url": "$CHANNEL_TOKEN"}, "CHANNEL_TOKEN is not for models"),
        ({"base_url": "https://me:sk-123@host/v1"}, "fast: args.base_url: write $NAME"),
        ({"secret_id": "sk-123"}, "fast: args.secret_id: write $NAME"),
        ({"auth": {"passphrase": "sk-123"}}, "fast: args.auth.passphrase: write $NAME"),
        ({"connection_string": "a;b"}, "fast: args.connection_string: write $NAME"),
    ],
)
def test_no_secret_goes_into_the_database_nor_out_of_the_environment(
    args: dict[str, Any], sentence: str
) -> None:
    channel = {"name": "slack", "kind": "slack", "owner": "o", "assistant": "a"}
    own = GatewaySpec.model_validate(
        {"channels": [{**channel, "secret": "$CHANNEL_SECRET", "token": "${CHANNEL_TOKEN}"}]}
    )
    with pytest.raises(SettingsError, match=r"gateway\.models: ") as raised:
        own.changed_by({"models": [{**FAST, "args": args}]})
    assert sentence in raised.value.message
    fine = {
        "api_key": "$OPENAI_API_KEY",
        "base_url": "https://host/v1?by=me@host",
        "max_tokens": 5,
        "default_query": {"tokens": "x"},
    }
    assert own.changed_by({"models": [{**FAST, "args": fine}]}).models[0].args == fine
