"""Two Postgres servers in streaming replication: one is written to, the other follows, a little later.

Replication is asynchronous: what the primary has committed and the standby has not received is forgotten by a
promotion. `Replication.cut` makes that certain.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from slackwater.postgres import postmaster
from slackwater.postgres.binaries import EmbeddedError, SystemUser, find_binaries
from slackwater.postgres.embedded import EmbeddedPostgres

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "autovacuum": "off",
    "wal_keep_size": "256MB",  # a standby that was away finds what it has missed
    "wal_retrieve_retry_interval": "100ms",
    "wal_sender_timeout": "0",
}
WAIT_SECONDS = 20.0


class Server(EmbeddedPostgres):
    """A server with a TCP port, which stays the same when it is stopped, started, or made anew."""

    def __init__(self, folder: Path, source: Server | None = None) -> None:
        super().__init__(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.source = source
        """What a new cluster of this server is a standby of."""
        self._settings |= {**SETTINGS, "port": str(self.port)}

    def uri(self, database: str = "postgres") -> str:
        """The URI of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[dict[str, Any]]:
        """The rows of a statement, which may write whatever is the default here."""
        conninfo = make_conninfo(self.uri(database), options="-c default_transaction_read_only=off")
        with psycopg.connect(conninfo, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it and wait until it has gone: SIGINT ends every session properly, SIGQUIT is a crash."""
        pid = postmaster.find(self._data)
        if pid is not None:
            os.kill(pid, how)
            _until(lambda: postmaster.find(self._data) != pid, f"server {self.port} has stopped")
        self.release()

    def set_read_only(self, on: bool) -> None:
        """Refuse (or take) writes from now on, in the sessions that there are, too."""
        self.execute(f"alter system set default_transaction_read_only = {'on' if on else 'off'}")
        self.execute("select pg_reload_conf()")
        shown = "show default_transaction_read_only"
        # A new session knows at once; those that there are have the signal by then, or within microseconds.
        _until(
            lambda: self._default(shown) == ("on" if on else "off"), "the server has read its configuration"
        )

    def _default(self, show: str) -> str:
        with psycopg.connect(self.uri(), autocommit=True) as connection:
            row = connection.execute(show).fetchone()
            assert row is not None
            return str(row[0])

    @property
    def is_standby(self) -> bool:
        """Whether it follows another server, and refuses writes."""
        return bool(self.execute("select pg_is_in_recovery() as it")[0]["it"])

    def _create(self, bindir: Path, account: SystemUser, home: Path, deadline: float) -> None:
        if self.source is None:
            super()._create(bindir, account, home, deadline)
            return
        data = home / "data"
        shutil.rmtree(data, ignore_errors=True)
        account.own(data, 0o700)
        copied = account.run(
            *(bindir / "pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync"),
            *("-d", self.source.uri()),
            timeout=max(1.0, deadline - time.monotonic()),
        )
        if copied.returncode:
            raise EmbeddedError(f"No base backup from {self.source.port}:\n{copied.stderr[-1500:]}")
        # What was set for the other server alone.
        (data / "server.log").unlink(missing_ok=True)
        if self.base / "data" != data:
            (self.base / "data").unlink(missing_ok=True)
            (self.base / "data").symlink_to(data)


class Replication:
    """A primary and its standby. `primary` is always the one that takes writes."""

    def __init__(self, folder: Path) -> None:
        self.primary = Server(folder / "one")
        self.standby = Server(folder / "two", self.primary)

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.primary, self.standby

    def uri(self, database: str = "postgres") -> str:
        """A URI with both hosts; the one that is the primary at this moment comes first."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"postgresql://postgres@{hosts}/{database}"

    def start(self) -> None:
        self.primary.start()
        self.standby.start()
        self.until_caught_up()

    def until_caught_up(self) -> None:
        """Wait until the standby shows everything that the primary has committed until now."""
        here = self.primary.execute("select pg_current_wal_flush_lsn()::text as lsn")[0]["lsn"]
        _until(
            lambda: self.standby.execute(f"select pg_last_wal_replay_lsn() >= '{here}' as it")[0]["it"],
            "the standby has caught up",
        )

    def cut(self) -> None:
        """Let the standby receive nothing more: what is committed from now on, a promotion forgets."""
        self.standby.execute("alter system set primary_conninfo = ''")
        self.standby.execute("select pg_reload_conf()")
        _until(
            lambda: not self.standby.execute("select 1 from pg_stat_wal_receiver"),
            "the standby receives nothing more",
        )

    def promote(self) -> None:
        """Make the standby the primary. The old primary, if it is still there, goes on as it is: stop it, or `demote`."""
        self.standby.execute("select pg_promote(wait => true)")
        _until(lambda: not self.standby.is_standby, "the standby is promoted")
        self.primary, self.standby = self.standby, self.primary

    def demote(self) -> None:
        """Make what was the primary before a promotion a standby of the new one, at its own address."""
        old = self.standby
        old.stop(signal.SIGQUIT)
        old.source = self.primary
        shutil.rmtree(old._data)
        (old.base / "data").unlink(missing_ok=True)
        old.start()
        self.until_caught_up()

    def close(self) -> None:
        for server in self.servers:
            with suppress(ProcessLookupError):
                server.stop(signal.SIGQUIT)
            server.release()


@contextmanager
def replicated() -> Iterator[Replication]:
    """Two servers, the second a standby of the first; gone at the end."""
    find_binaries(None)
    # Not a folder of pytest's: those are closed to the account that the servers run as under root.
    folder = Path(tempfile.mkdtemp(prefix="slackwater-replication-"))
    folder.chmod(0o755)
    pair = Replication(folder)
    try:
        pair.start()
        yield pair
    finally:
        pair.close()
        for server in pair.servers:
            server.wait_stopped(10)
        shutil.rmtree(folder, ignore_errors=True)


def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {WAIT_SECONDS:g} s: {what}")
        time.sleep(0.01)
