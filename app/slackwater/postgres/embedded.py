"""The embedded Postgres of development, the demo and the tests: no TCP port, no set-up, nothing left behind.

Everything is below one folder. Processes share the server: each holds a shared lock for as long as it uses it, and
a watchdog process (`postmaster.py`) stops the server when the last one has gone, also after a SIGKILL.

    postgres/data           the cluster (under root possibly a link to /var/lib/slackwater, the only one it follows)
    postgres/users.lock     shared: a process uses the server; exclusive: the watchdog is stopping it
    postgres/start.lock     exclusive: a process is starting it
    postgres/watchdog.lock  exclusive: a watchdog is there
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from slackwater.postgres import folders, postmaster
from slackwater.postgres.binaries import (
    EmbeddedError,
    SystemUser,
    find_binaries,
    major_version,
    reachable_binaries,
)

CLOSED_HOME = Path("/var/lib/slackwater")
"""Where the cluster of a root process is when its own folder is closed to the server's account."""

PORT = 5432  # only part of the socket's name
SETTINGS = {
    "port": str(PORT),
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "jit": "off",
    "log_checkpoints": "off",
}
THROWAWAY_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Its workers visit the template database, and CREATE DATABASE would wait for them.
    "autovacuum": "off",
}
LOG_BYTES = 1_000_000


class EmbeddedPostgres:
    """A server below `data_dir`, shared by all processes that start it there.

    `bindir` holds other programs than the packaged ones. `throwaway` trades durability for speed: for tests only.
    """

    def __init__(self, data_dir: Path, *, bindir: Path | None = None, throwaway: bool = False) -> None:
        self.base = Path(data_dir).resolve() / "postgres"
        self._bindir = bindir
        self._settings = {**SETTINGS, **(THROWAWAY_SETTINGS if throwaway else {})}
        self._users: int | None = None

    def start(self, timeout: float = 60.0) -> str:
        """Start the server if it does not run, and use it until `release`; its conninfo.

        Blocks for 0.1 s, or 0.5 s the first time. Raises EmbeddedError.
        """
        if "AWS_LAMBDA_RUNTIME_API" in os.environ:
            raise EmbeddedError(
                "On AWS Lambda an embedded server would lose its data: set SLACKWATER_DATABASE_URI to a Postgres."
            )
        if self._users is not None:
            return self._conninfo()
        try:
            self._use(find_binaries(self._bindir), time.monotonic() + timeout)
        except OSError as error:
            raise EmbeddedError(
                f"The embedded Postgres cannot use {self.base} ({error}): set SLACKWATER_DATA_DIR to a folder that you "
                "own, or set SLACKWATER_DATABASE_URI."
            ) from error
        return self._conninfo()

    async def astart(self, timeout: float = 60.0) -> str:
        """`start` in a thread."""
        return await asyncio.to_thread(self.start, timeout)

    def release(self) -> None:
        """Stop using the server. It stops if nobody else uses it, a moment later."""
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def wait_stopped(self, timeout: float) -> bool:
        """Wait until the server has stopped, if this was the last process that used it."""
        deadline = time.monotonic() + timeout
        while (self._data / "postmaster.pid").exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    @property
    def _data(self) -> Path:
        data = self.base / "data"
        if os.geteuid():
            return data.resolve()
        if not data.is_symlink():
            return data
        if data.readlink() != self._closed / "data":
            raise EmbeddedError(
                f"{data} is a link to {data.readlink()}, which is not followed as root: remove it, or set SLACKWATER_DATA_DIR to "
                "another folder."
            )
        return self._closed / "data"

    @property
    def _closed(self) -> Path:
        """Where root keeps what does not belong, or cannot be reached, below its own folder."""
        return CLOSED_HOME / hashlib.sha256(str(self.base).encode()).hexdigest()[:12]

    @property
    def _sockets(self) -> Path:
        """The folder of the Unix socket, whose path may have no more than about 100 bytes.

        Always the same for one cluster, so that the pools of other processes find a restarted server. A new cluster
        at the old place has another one: its predecessor notices only within a minute that it has been deleted.
        """
        cluster = f"{self._data}\0{(self._data / 'PG_VERSION').lstat().st_mtime_ns}"
        # `_make_sockets` refuses one that is somebody else's.
        temporary = Path("/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir())  # noqa: S108
        return temporary / f"slackwater-{hashlib.sha256(cluster.encode()).hexdigest()[:12]}"

    def _conninfo(self) -> str:
        # The port is told because a PGPORT in the environment would go before the default.
        return f"postgresql://postgres@/postgres?host={self._sockets}&port={PORT}"

    def _use(self, bindir: Path, deadline: float) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        with folders.inside(self.base) as base:
            folders.note(base, ".gitignore", "*\n")
        # Also waits for a watchdog that is stopping the server at this moment.
        users = _lock(self.base / "users.lock", fcntl.LOCK_SH, deadline)
        try:
            starting = _lock(self.base / "start.lock", fcntl.LOCK_EX, deadline)
            try:
                self._start(bindir, deadline)
            finally:
                os.close(starting)
        except BaseException:
            os.close(users)
            raise
        self._users = users

    def _start(self, bindir: Path, deadline: float) -> None:
        account = SystemUser.for_data(self._data)
        if self._data.exists() and not account.is_other and self._data.stat().st_uid != account.uid:
            raise EmbeddedError(
                f"{self._data} belongs to another user: run as that user, or set SLACKWATER_DATA_DIR to another folder."
            )
        home = self._home(account)
        bindir = reachable_binaries(bindir, account, self._tools(account, home))
        if not (self._data / "PG_VERSION").exists():
            self._create(bindir, account, home, deadline)
        # The watchdog first: from here on a server that runs is one that somebody stops.
        _make_sockets(self._sockets, account)
        watchdog = self._watch()
        try:
            if not self._runs(deadline):
                self._launch(bindir, account, deadline)
        finally:
            if watchdog is not None:
                watchdog.wait(timeout=10)  # only until it has gone to the background

    def _home(self, account: SystemUser) -> Path:
        """The folder for what the server's account must reach."""
        return self.base if account.can_enter(self.base) else self._open_closed()

    def _tools(self, account: SystemUser, home: Path) -> Path:
        """The folder for programs that the server's account runs: nobody else may have put them there."""
        return home if not account.is_other or folders.only_ours(home) else self._open_closed()

    def _open_closed(self) -> Path:
        self._closed.mkdir(parents=True, exist_ok=True)
        for folder in (CLOSED_HOME, self._closed):
            with folders.inside(folder, owners=(os.geteuid(),)) as descriptor:
                os.fchmod(descriptor, 0o711)
        return self._closed

    def _create(self, bindir: Path, account: SystemUser, home: Path, deadline: float) -> None:
        unfinished = home / "data.new"
        # The folder of the user is the truth: without its link what is left in the other place is litter.
        with folders.inside(self.base) as base, folders.inside(home) as place:
            folders.remove(base, "data")
            folders.remove(place, "data.new", "data")
        account.own(unfinished, 0o700)
        made = account.run(
            *(bindir / "initdb", "-D", unfinished, "-U", "postgres", "-A", "trust"),
            *("-E", "UTF8", "--no-locale", "--no-sync"),
            timeout=max(1.0, deadline - time.monotonic()),
        )
        if made.returncode:
            raise EmbeddedError(
                f"The embedded Postgres could not be set up in {home}:\n{made.stderr[-1500:]}"
            )
        with folders.inside(self.base) as base, folders.inside(home) as place:
            # Last: an initdb that was killed leaves no half a cluster behind.
            os.rename("data.new", "data", src_dir_fd=place, dst_dir_fd=place)
            if home != self.base:
                os.symlink(home / "data", "data", dir_fd=base)

    def _runs(self, deadline: float) -> bool:
        """True if the server accepts connections. One that is recovering or stopping is waited for."""
        while postmaster.find(self._data):
            if postmaster.is_ready(self._data):
                return True
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"The embedded Postgres in {self._data} is running but accepts no connections: see server.log there."
                )
            time.sleep(0.02)
        return False

    def _launch(self, bindir: Path, account: SystemUser, deadline: float) -> None:
        created, ours = folders.read(self._data / "PG_VERSION").strip(), major_version(bindir, account)
        if created != ours:
            raise EmbeddedError(
                f"{self._data} was created by Postgres {created}, but {bindir} is Postgres {ours}: set "
                f"SLACKWATER_POSTGRES_BIN to the programs of Postgres {created}, or remove {self.base}."
            )
        log = self._data / "server.log"
        with folders.inside(self._data, owners=(account.uid,)) as data, suppress(FileNotFoundError):
            if os.stat(log.name, dir_fd=data, follow_symlinks=False).st_size > LOG_BYTES:
                os.unlink(log.name, dir_fd=data)
        options = {**self._settings, "unix_socket_directories": self._sockets}
        while True:
            # We hold the start lock and there is no such process: what says otherwise is stale.
            for folder, stale in (
                (self._data, "postmaster.pid"),
                (self._sockets, f".s.PGSQL.{PORT}.lock"),
            ):
                with folders.inside(folder, owners=(account.uid,)) as descriptor:
                    folders.remove(descriptor, stale)
            started = account.run(
                *(bindir / "pg_ctl", "start", "-D", self._data, "-l", log, "-w"),
                *("-t", str(max(1, int(deadline - time.monotonic())))),
                *("-o", " ".join(f"-c {name}={value}" for name, value in options.items())),
                timeout=max(1.0, deadline - time.monotonic()) + 5.0,
            )
            if started.returncode == 0:
                return
            tail = folders.read(log)[-1500:] or started.stderr
            # The children of a postmaster that was killed need a moment to notice it.
            if "is still in use" not in tail or time.monotonic() > deadline:
                raise EmbeddedError(f"The embedded Postgres did not start:\n{tail}")
            time.sleep(0.1)

    def _watch(self) -> subprocess.Popen[bytes] | None:
        """Start the watchdog, unless one is there."""
        descriptor = os.open(self.base / "watchdog.lock", os.O_RDWR | os.O_CREAT | folders.follow(), 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The lock belongs to the open file, which the watchdog inherits.
            arguments = (self._data, self._sockets, self.base / "users.lock", descriptor)
            return subprocess.Popen(
                [sys.executable, "-I", "-S", postmaster.__file__, *map(str, arguments)],
                pass_fds=[descriptor],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BlockingIOError:
            return None
        finally:
            os.close(descriptor)


def _make_sockets(folder: Path, account: SystemUser) -> None:
    # /tmp is everybody's: a folder or a link that somebody else put there is not ours to use.
    try:
        account.own(folder, 0o700)
    except (folders.LinkRefused, FileExistsError, NotADirectoryError) as error:
        raise EmbeddedError(
            f"{folder}, which the embedded Postgres needs for its socket, belongs to another user."
        ) from error


def _lock(path: Path, kind: int, deadline: float) -> int:
    """The descriptor that holds the lock. Raises EmbeddedError at the deadline."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | folders.follow(), 0o600)
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise EmbeddedError(
                    f"Another process has been starting or stopping the embedded Postgres in {path.parent} for too long: "
                    "try again, or see server.log in it."
                ) from None
            time.sleep(0.01)
        else:
            return descriptor
