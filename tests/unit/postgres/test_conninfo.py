from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from slackwater.postgres.conninfo import for_writing, resolve, whoever_answers


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGTARGETSESSIONATTRS", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://me:secret@one:1,two:2/name?connect_timeout=3",
        "host=/tmp port=5432 dbname=name",
        "postgresql://postgres@/postgres?host=/tmp/slackwater&port=5432",
        "",
    ],
)
async def test_a_server_that_takes_writes_is_asked_for(conninfo: str) -> None:
    expected = {**conninfo_to_dict(conninfo), "target_session_attrs": "read-write"}
    assert conninfo_to_dict(for_writing(conninfo)) == expected

    async def ask() -> str:
        return conninfo

    assert conninfo_to_dict(await resolve(ask)) == expected


def test_what_somebody_has_chosen_stays() -> None:
    chosen = for_writing("postgresql://h/?target_session_attrs=any")
    assert conninfo_to_dict(chosen) == {"host": "h", "target_session_attrs": "any"}
    for left_alone in ("service=mine", "not=a conninfo"):
        assert for_writing(left_alone) == left_alone


@pytest.mark.parametrize("name", ["PGTARGETSESSIONATTRS", "PGSERVICE"])
def test_what_the_environment_says_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "primary")
    assert for_writing("host=h") == "host=h"


def test_each_host_is_asked_for_itself() -> None:
    hosts = [conninfo_to_dict(one) for one in whoever_answers("postgresql://me@one:1,two:2/name")]
    assert [(parts["host"], parts["port"]) for parts in hosts] == [("one", "1"), ("two", "2")]
    assert {(parts["user"], parts["target_session_attrs"]) for parts in hosts} == {("me", "any")}
    same_port = whoever_answers("host=one,two port=5433")
    assert [conninfo_to_dict(one)["port"] for one in same_port] == ["5433", "5433"]
    assert len(list(whoever_answers("dbname=name"))) == 1
