"""Signing keys and real processes: many that start at once, stop, start again; a rotation that is stopped in the middle."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from support.command import SLACKWATER, run_command, settings_only
from support.server import ServerProcess, fleet_of

from slackwater.errors import ExitCode
from slackwater.identity.signing import rotation
from slackwater.postgres.pool import Database

PROJECT = Path(__file__).parents[2] / "graphs"
KEY = "A" * 43 + "="
SETTINGS = {"SLACKWATER_DATABASE_KEYS": "true", "SLACKWATER_ENCRYPTION_KEY": KEY}


async def status(server: ServerProcess, token: str) -> int:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        answer = await client.post("/threads/search", json={}, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


def token_of(folder: Path, uri: str) -> str:
    answer = run_command(
        folder, "token", "alice", "--seconds=300", SLACKWATER_DATABASE_URI=uri, SLACKWATER_ENCRYPTION_KEY=KEY
    )
    assert answer.code == 0, answer
    return answer.out.strip()


async def test_processes_that_start_at_once_share_a_key_that_outlives_them(
    database: Database, database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, PROJECT, env=SETTINGS) as fleet:
        first, second = fleet.launch(), fleet.launch()
        await asyncio.gather(first.until_ready(300), second.until_ready(300))
        (key,) = await rotation.list_(database)
        assert key["sealed_by"] is not None
        made = [line for server in (first, second) for line in server.events("signing.created")]
        assert [line["kid"] for line in made] == [key["kid"]]
        token = await asyncio.to_thread(token_of, tmp_path, database_uri)
        assert [await status(server, token) for server in (first, second)] == [200, 200]
        # WHEN all of them are gone, however that was
        first.sigterm()
        second.sigkill()
        await asyncio.gather(first.wait(60), second.wait(60))
        third = fleet.launch()
        await third.until_ready(300)
        # THEN nothing has changed
        assert await status(third, token) == 200
        assert [row["kid"] for row in await rotation.list_(database)] == [key["kid"]]
    assert fleet.complaints == []
    # AND a process with another key says what to do, and does not start
    answer = await asyncio.to_thread(
        run_command,
        tmp_path,
        *("serve", "--port", "0", "--project", PROJECT),
        SLACKWATER_DATABASE_URI=database_uri,
        SLACKWATER_DATABASE_KEYS="true",
        SLACKWATER_ENCRYPTION_KEY="B" * 42 + "A=",
    )
    assert answer.code == ExitCode.SETTINGS
    assert "SLACKWATER_ENCRYPTION_KEY is not the one by which" in answer.err


def begun(folder: Path, uri: str, *, now: bool) -> subprocess.Popen[bytes]:
    """A rotation in a process of its own."""
    return subprocess.Popen(
        [SLACKWATER, "signing", "rotate", *(["--now"] if now else [])],
        cwd=folder,
        env=settings_only(folder, SLACKWATER_DATABASE_URI=uri, SLACKWATER_ENCRYPTION_KEY=KEY),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_rotation_that_is_stopped_in_the_middle_is_carried_out_as_a_whole_or_not(
    database: Database, database_uri: str, tmp_path: Path, how: signal.Signals, now: bool
) -> None:
    await asyncio.to_thread(token_of, tmp_path, database_uri)
    (first,) = await rotation.list_(database)
    async with await psycopg.AsyncConnection.connect(database_uri) as other:
        # GIVEN another one that is at it
        await other.execute("select pg_advisory_xact_lock(hashtextextended('slackwater.signing_keys', 0))")
        command = begun(tmp_path, database_uri, now=now)
        try:
            while not await waiting(database):
                assert command.poll() is None
                await asyncio.sleep(0.01)
            # WHEN it has to leave
            command.send_signal(how)
            assert await asyncio.to_thread(command.wait, 60) != 0
        finally:
            command.kill()
            command.wait()
    until = time.monotonic() + 60
    while await waiting(database):
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    # THEN there is a key that signs, and another only if the first one has got its end
    rows = await rotation.list_(database)
    assert [row["valid_until"] is None for row in rows] == [True] + [False] * (len(rows) - 1)
    expected = 1 if now else 2
    assert rows[-1]["kid"] == first["kid"] or now
    assert len(rows) in (1, expected)
    # AND it can be called again
    answer = await asyncio.to_thread(
        run_command,
        tmp_path,
        *("signing", "rotate", "--json"),
        SLACKWATER_DATABASE_URI=database_uri,
        SLACKWATER_ENCRYPTION_KEY=KEY,
    )
    assert answer.json["kid"] == (await rotation.list_(database))[0]["kid"]


async def waiting(database: Database) -> Any:
    return await database.fetch(
        "select 1 from pg_locks where locktype = 'advisory' and not granted "
        "and database = (select oid from pg_database where datname = current_database())"
    )
