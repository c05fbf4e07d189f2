"""The two servers that failovers are tried with do what a failover does."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.replication import Replication, replicated


@pytest.fixture(scope="module")
def pair() -> Iterator[Replication]:
    with replicated() as pair:
        yield pair


def test_a_promotion_forgets_what_the_standby_has_not_received(pair: Replication) -> None:
    old, new = pair.servers
    old.execute("create table t (n int)")
    old.execute("insert into t values (1)")
    pair.until_caught_up()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        new.execute("insert into t values (9)")
    # WHEN the standby is promoted that has not received the last commit
    pair.cut()
    old.execute("insert into t values (2)")
    pair.promote()
    # THEN the new primary takes writes, and does not know of it
    assert pair.primary is new
    new.execute("insert into t values (3)")
    assert new.execute("select n from t order by n") == [{"n": 1}, {"n": 3}]
    assert old.execute("select n from t order by n") == [{"n": 1}, {"n": 2}]
    # and the old one comes back as a standby, at its old address
    pair.demote()
    assert old.is_standby
    assert old.execute("select n from t order by n") == [{"n": 1}, {"n": 3}]


def test_a_server_that_is_read_only_refuses_writes_in_the_sessions_that_there_are(pair: Replication) -> None:
    server = pair.primary
    with psycopg.connect(server.uri(), autocommit=True) as before:
        before.execute("create table w (n int)")
        server.set_read_only(True)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            before.execute("insert into w values (1)")
        server.set_read_only(False)
        before.execute("insert into w values (2)")
