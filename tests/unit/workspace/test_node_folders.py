"""The folders of runs on this disk: what has changed in one, and who cleans up after a process that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from slackwater.blobs.queries import NewFile
from slackwater.kit.ids import uuid7
from slackwater.workspace.node_files import folder
from slackwater.workspace.node_files.folder import MAX_PATH_BYTES, Base, LocalFile, Stamp, StoredFile
from slackwater.workspace.node_files.queries import Changes


def kept(root: Path, path: str) -> StoredFile:
    return StoredFile("k", 1, None, Stamp.of(os.stat(root / path)))


def test_what_has_changed(tmp_path: Path) -> None:
    folder.make(tmp_path)
    for name in ("same", "young", "written", "gone"):
        (tmp_path / "outputs" / name).write_text("1")
        if name != "young":
            os.utime(tmp_path / "outputs" / name, (1_000_000_000, 1_000_000_000))
    stored = {
        f"outputs/{name}": kept(tmp_path, f"outputs/{name}") for name in ("same", "young", "written", "gone")
    }
    # Written again within one tick of the clock, it would look the same
    assert not stored["outputs/young"].stamp.settled
    written = tmp_path / "outputs" / "written"
    times = os.stat(written)
    written.write_text("2")
    os.utime(written, ns=(times.st_atime_ns, times.st_mtime_ns))  # whoever sets it back is found out
    (tmp_path / "outputs" / "gone").unlink()
    (tmp_path / "workspace" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "workspace" / "deep" / "er" / "new").touch()
    (tmp_path / "beside").touch()  # in no part
    (tmp_path / "outputs" / "link").symlink_to("same")
    (tmp_path / "uploads").rmdir()
    (tmp_path / "uploads").symlink_to("/etc")
    os.mkfifo(tmp_path / "workspace" / "pipe")
    Path(os.fsdecode(os.fsencode(tmp_path / "workspace") + b"/\xff")).touch()

    found = folder.look(tmp_path, stored)

    assert set(found.changed) == {"outputs/written", "outputs/young", "workspace/deep/er/new"}
    assert found.gone == {"outputs/gone"}
    assert len(found.skipped) == 3
    assert MAX_PATH_BYTES < 2700  # an index of Postgres holds no more


def test_a_file_is_closed_by_the_last_thread_that_has_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    target, ended = LocalFile(tmp_path, "pipe", writes=True), Event()

    def write() -> None:
        with suppress(BrokenPipeError):
            target.write(b"x" * 1_000_000)  # more than a pipe holds: it waits for who reads
        ended.set()

    writing = Thread(target=write)
    writing.start()
    with (tmp_path / "pipe").open("rb") as pipe:
        assert pipe.read(1) == b"x"
        target.close()
        assert not ended.is_set()
        assert target._file is not None
        assert len(pipe.read()) == 999_999  # up to its end, as it is closed now
    writing.join()
    assert target._file is None
    with pytest.raises(FileNotFoundError):
        target.write(b"x")


def test_changes_of_two_boundaries_are_one() -> None:
    thread = uuid7()

    def changes(saved: dict[str, str], gone: dict[str, str]) -> Changes:
        files = {path: NewFile(path, blob, 1, None) for path, blob in saved.items()}
        return Changes("o", thread, 0, files, gone)

    first = changes({"outputs/a": "a1", "outputs/b": "b1"}, {"outputs/c": "c0", "outputs/d": "d0"})
    second = changes({"outputs/b": "b2", "outputs/c": "c2"}, {"outputs/a": "a1"})
    merged = first.merged(second)

    assert {path: file.blob for path, file in merged.saved.items()} == {"outputs/b": "b2", "outputs/c": "c2"}
    assert merged.gone == {"outputs/d": "d0", "outputs/a": "a1"}


def test_what_a_killed_process_has_left_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "from slackwater.workspace.node_files.folder import Base; b = Base(); print(b.new(), flush=True); input()"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        left, alive = (
            Path(process.stdout.readline().decode().strip()) for process in processes if process.stdout
        )
        processes[0].kill()
        processes[0].wait()
        for base in (left.parent, alive.parent):
            os.utime(base, (0, 0))

        one = Base()
        mine = one.new()

        assert not left.parent.exists()
        assert alive.exists()
        assert mine.exists()
        one.end()
        assert not mine.parent.exists()
    finally:
        for process in processes:
            process.kill()
            process.communicate()
