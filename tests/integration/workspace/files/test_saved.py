"""What makes files of blobs: all of them or none, whoever saves at the same time, and no blob is left without a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from slackwater.blobs import files, queries
from slackwater.blobs.blobs import StoreSilent, new_key
from slackwater.blobs.files import StagedTooLong, TooManyFileBytes
from slackwater.blobs.local import LocalBlobs
from slackwater.blobs.queries import NewFile
from slackwater.blobs.sweep import FEW, sweep
from slackwater.postgres.pool import Database
from slackwater.workspace.node_files.queries import Changes

ALICE = "alice"


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def new(
    database: Database, blobs: LocalBlobs, thread_id: UUID, path: str, content: bytes, owner: str = ALICE
) -> NewFile:
    """A staged blob that is written."""
    key = new_key(owner, thread_id)
    await queries.stage(database, [key])
    return NewFile(path, key, await blobs.put(key, of(content)), None)


async def content_of(database: Database, blobs: LocalBlobs, thread_id: UUID, path: str) -> bytes | None:
    row = await queries.find(database, ALICE, thread_id, path)
    return None if row is None else b"".join([piece async for piece in blobs.read(row["blob"])])


def kept(blobs: LocalBlobs) -> int:
    return sum(path.is_file() for path in blobs._folder.rglob("*"))


async def test_what_is_replaced_goes_with_the_sweep_and_what_is_there_stays(
    database: Database, blobs: LocalBlobs
) -> None:
    thread = uuid4()
    for content in (b"one", b"two"):
        file = await new(database, blobs, thread, "uploads/a.txt", content)
        assert (await files.save(database, ALICE, thread, [file], 0)).keys() == {"uploads/a.txt"}
    assert kept(blobs) == 2
    assert await sweep(database, blobs) == 1
    assert kept(blobs) == 1
    assert await content_of(database, blobs, thread, "uploads/a.txt") == b"two"

    assert await queries.delete(database, ALICE, thread, ["uploads/a.txt", "uploads/b.txt"]) == [
        "uploads/a.txt"
    ]
    await sweep(database, blobs)
    assert kept(blobs) == 0
    assert await database.fetch("select * from slackwater.blobs") == []


async def test_whoever_replaces_the_same_at_once_leaves_one_whole_file(
    database: Database, blobs: LocalBlobs
) -> None:
    thread = uuid4()
    pairs = [
        [
            await new(database, blobs, thread, "uploads/a.txt", content),
            await new(database, blobs, thread, "uploads/b.txt", content),
        ]
        for content in (b"%d" % number for number in range(8))
    ]
    await asyncio.gather(*(files.save(database, ALICE, thread, pair, 0) for pair in pairs))
    await sweep(database, blobs)
    assert kept(blobs) == 2
    contents = {await content_of(database, blobs, thread, f"uploads/{name}.txt") for name in "ab"}
    assert len(contents) == 1, "the two files are of one request"


async def test_all_or_none_is_saved(database: Database, blobs: LocalBlobs) -> None:
    thread = uuid4()
    one = await new(database, blobs, thread, "uploads/a.txt", b"one")
    late = await new(database, blobs, thread, "uploads/b.txt", b"late")
    await queries.discard(database, [late.blob])
    with pytest.raises(StagedTooLong):
        await files.save(database, ALICE, thread, [one, late], 0)
    assert await queries.list_(database, ALICE, thread, "") == []
    await files.save(database, ALICE, thread, [one], 0)
    await sweep(database, blobs)
    assert kept(blobs) == 1


async def test_a_quota_counts_what_all_who_save_at_once_have(database: Database, blobs: LocalBlobs) -> None:
    threads = [uuid4() for _ in range(6)]
    made = [await new(database, blobs, thread, "outputs/a", b"x" * 40) for thread in threads]
    saved = await asyncio.gather(
        *(
            files.save(database, ALICE, thread, [file], 100)
            for thread, file in zip(threads, made, strict=True)
        ),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in saved) == ["TooManyFileBytes"] * 4 + ["dict"] * 2
    # What a file replaces does not count, and a limit of the owner's own comes first.
    there = threads[next(n for n, one in enumerate(saved) if isinstance(one, dict))]
    await files.save(database, ALICE, there, [await new(database, blobs, there, "outputs/a", b"y" * 60)], 100)
    await database.execute("insert into slackwater.limits (owner, file_bytes) values ('alice', 10)")
    with pytest.raises(TooManyFileBytes):
        await files.save(database, ALICE, there, [await new(database, blobs, there, "outputs/b", b"z")], 0)


async def test_what_was_staged_for_too_long_cannot_be_saved_and_goes(
    database: Database, blobs: LocalBlobs
) -> None:
    thread = uuid4()
    file = await new(database, blobs, thread, "uploads/a.txt", b"one")
    (blobs._path(file.blob).with_name(blobs._path(file.blob).name + ".part")).write_bytes(b"half")
    await sweep(database, blobs)
    assert kept(blobs) == 2
    await database.execute("update slackwater.blobs set changed_at = now() - interval '2 hours'")
    await sweep(database, blobs)
    assert kept(blobs) == 0
    with pytest.raises(StagedTooLong):
        await files.save(database, ALICE, thread, [file], 0)


async def test_what_others_may_still_write_is_not_swept_before(database: Database, blobs: LocalBlobs) -> None:
    key = new_key(ALICE, uuid4())
    await queries.stage(database, [key], [3], 900)
    assert await queries.staged(database, [key]) == {key: 3}
    await queries.discard(database, [key])
    assert await sweep(database, blobs) == 0
    await database.execute("update slackwater.blobs set writable_until = now()")
    assert await sweep(database, blobs) == 1


async def test_a_store_that_stops_answering_does_not_undo_what_was_swept(
    database: Database, tmp_path: Path
) -> None:
    class Failing(LocalBlobs):
        calls = 0

        async def delete(self, keys: Collection[str], *, abandoned: bool = False) -> None:
            self.calls += abandoned
            if abandoned and self.calls == 2:
                raise StoreSilent
            await super().delete(keys, abandoned=abandoned)

    keys = [new_key(ALICE, uuid4()) for _ in range(FEW + 1)]
    await queries.stage(database, keys)
    await queries.discard(database, keys)
    blobs = Failing(tmp_path)
    with pytest.raises(StoreSilent):
        await sweep(database, blobs)
    assert await sweep(database, blobs) == 1


async def test_files_of_an_owner_are_counted_only_where_they_are_limited(
    database: Database, blobs: LocalBlobs
) -> None:
    thread = uuid4()
    file = await new(database, blobs, thread, "uploads/a.txt", b"x")
    for most, counted in ((0, False), (10, True)):
        _, (sql, parameters) = queries.saving(ALICE, thread, [file], most)
        _, (later, more) = Changes(ALICE, thread, most, {file.path: file}).statements("select 1", {})
        for text, values in ((sql, parameters), (later, more)):
            plan = await database.fetch(f"explain (analyze, timing off) {text}", values)
            lines = [row["QUERY PLAN"] for row in plan]
            at = next(n for n, line in enumerate(lines) if "Aggregate" in line and "Scan" in lines[n + 1])
            assert ("never executed" not in lines[at]) == counted, lines
