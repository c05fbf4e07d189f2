"""Real servers behind what says that it is a proxy, by `slackwater serve` and by plain uvicorn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row
from support.command import run_command
from support.server import ServerProcess, address_of_this_machine, fleet_of

from slackwater.identity.keys import new_key

GRAPHS = Path(__file__).parents[2] / "graphs"
SECRET, KEY = new_key("maria")

HERE = "127.0.0.1/32"


@asynccontextmanager
async def server_of(
    database_uri: str, folder: Path, *, uvicorn: bool = False, **env: str
) -> AsyncIterator[ServerProcess]:
    settings = {
        "SLACKWATER_API_KEYS": f"{KEY.name}:{KEY.sha256}",
        "SLACKWATER_HOST": "0.0.0.0",
        "UVICORN_HOST": "0.0.0.0",
        "FORWARDED_ALLOW_IPS": "*",  # uvicorn's own, which counts for nothing
        **{f"SLACKWATER_{name.upper()}": value for name, value in env.items()},
    }
    async with fleet_of(database_uri, folder, GRAPHS, settings) as fleet:
        (server,) = await fleet.start(uvicorn=uvicorn)
        # The one that it listens on says nothing of where to reach it.
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        yield server


async def get(server: ServerProcess, path: str, *, host: str = "127.0.0.1", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(f"http://{host}:{urlsplit(server.url).port}{path}", headers=named, timeout=15)


async def refused_at(server: ServerProcess, database_uri: str) -> set[str]:
    """The addresses that it has refused, once it has stopped."""
    server.sigterm()
    await server.wait()
    async with await psycopg.AsyncConnection.connect(database_uri, row_factory=dict_row) as connection:
        rows = await connection.execute(
            "SELECT address FROM slackwater.audit WHERE action = 'request.refused'"
        )
        return {row["address"] async for row in rows}


SAID: Sequence[dict[str, str]] = (
    {"x_real_ip": "203.0.113.1"},
    {"x_forwarded_for": "203.0.113.2"},
    {"x_forwarded_for": "203.0.113.3:4711"},
    {"forwarded": "for=203.0.113.4"},
    {"x_real_ip": "203.0.113.5", "x_forwarded_for": "203.0.113.6"},
)


@pytest.mark.parametrize("uvicorn", [False, True], ids=["serve", "plain uvicorn"])
async def test_of_a_peer_that_is_not_trusted_nothing_is_believed(
    database_uri: str, tmp_path: Path, uvicorn: bool
) -> None:
    """A10: X-Real-IP is ignored without trusted proxies and rejected from others; 6.2 no. 8: so are scheme and host."""
    elsewhere = address_of_this_machine()
    async with server_of(database_uri, tmp_path, uvicorn=uvicorn, trusted_proxies="203.0.113.0/24") as server:
        for peer in ("127.0.0.1", elsewhere):
            for said in SAID:
                answer = await get(server, "/threads/x", host=peer, **said)
                assert answer.status_code == 401
            answer = await get(server, "/ok", host=peer, x_forwarded_proto="https", forwarded="proto=https")
            assert "strict-transport-security" not in answer.headers
            card = await card_of(
                server, host=peer, x_forwarded_host="evil.example", x_forwarded_proto="https"
            )
            assert card.startswith(f"http://{peer}:")
        assert await refused_at(server, database_uri) == {"127.0.0.1", elsewhere}


@pytest.mark.parametrize("uvicorn", [False, True], ids=["serve", "plain uvicorn"])
async def test_a_trusted_proxy_says_who_calls(database_uri: str, tmp_path: Path, uvicorn: bool) -> None:
    """A10: X-Real-IP is honoured from a trusted peer, and X-Forwarded-For never used."""
    async with server_of(database_uri, tmp_path, uvicorn=uvicorn, trusted_proxies=HERE) as server:
        for said in SAID:
            assert (await get(server, "/threads/x", **said)).status_code == 401
        for scheme in ({"x_forwarded_proto": "https"}, {"forwarded": "proto=https"}):
            answer = await get(server, "/ok", **scheme)
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
        for host in ({"x_forwarded_host": "app.example"}, {"forwarded": "host=app.example"}):
            card = await card_of(server, x_forwarded_proto="https", **host)
            assert card.startswith("https://app.example/a2a/")
        # AND of one that does not ask by way of the proxy
        assert "strict-transport-security" not in (await get(server, "/ok")).headers
        assert await refused_at(server, database_uri) == {"203.0.113.1", "127.0.0.1", "203.0.113.5"}


async def card_of(server: ServerProcess, **said: Any) -> str:
    """Where an agent says that it is."""
    agent = await get(server, "/.well-known/agent-card.json?assistant_id=echo", x_api_key=SECRET, **said)
    assert agent.status_code == 200, agent.text
    url: str = agent.json()["url"]
    return url


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("10.0.0.0/8,nonsense", "'nonsense' is no address and no network"),
        ("10.0.0.0/33", "'10.0.0.0/33' is no address and no network"),
        ("10.0.0.7/8", "'10.0.0.7/8' is an address inside a network: write 10.0.0.0/8"),
        ("*", "'*' is no address and no network"),
    ],
)
def test_a_wrong_entry_stops_the_start(tmp_path: Path, value: str, told: str) -> None:
    """A10, but for one thing: a bad entry is not skipped, as that would leave a proxy out and nobody would know why."""
    answer = run_command(tmp_path, "serve", "--project", GRAPHS, SLACKWATER_TRUSTED_PROXIES=value)
    assert answer.code == 2
    assert answer.sentence.startswith(f"SLACKWATER_TRUSTED_PROXIES: {told}")
