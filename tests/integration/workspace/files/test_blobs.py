"""The contract of a store of blobs, for each of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event
from uuid import uuid4

import boto3
import httpx
import pytest

from slackwater.aws import clients
from slackwater.aws.objects import PART_BYTES, S3Blobs, blobs_of
from slackwater.blobs.blobs import PIECE_BYTES, BlobGone, Blobs, StoreSilent, new_key
from slackwater.blobs.local import LocalBlobs
from slackwater.blobs.place import Bucket
from slackwater.settings import Settings

BUCKET = "files"
BIG = PART_BYTES * 2 + 17
"""Bytes that S3 takes in three parts."""


@pytest.fixture(params=["file", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    if request.param == "file":
        blobs = blobs_of(Settings.load(blobs=f"file:{tmp_path}/blobs"))
        assert isinstance(blobs, LocalBlobs)
    else:
        request.getfixturevalue("s3_environment")
        blobs = blobs_of(Settings.load(blobs=f"s3://{BUCKET}/some/where"))
        assert isinstance(blobs, S3Blobs)
    yield blobs
    blobs.close()


@pytest.fixture
def left(blobs: Blobs, tmp_path: Path) -> object:
    """How many objects, files and half written ones the store has, as whoever pays for it sees it."""

    def left() -> int:
        if isinstance(blobs, LocalBlobs):
            return sum(path.is_file() for path in tmp_path.rglob("*"))
        s3 = boto3.client("s3")
        return s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] + len(
            s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        )

    return left


def key() -> str:
    return new_key("alice", uuid4())


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(blobs: Blobs, key: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in blobs.read(key, start, length)])


async def until(left, count: int) -> None:
    """What was given up is removed soon, by a thread that nobody waits for."""
    deadline = time.monotonic() + 10
    while left() != count:
        assert time.monotonic() < deadline, left()
        await asyncio.sleep(0.01)


async def test_what_is_written_is_read_whole_and_in_part(blobs: Blobs) -> None:
    big, small, empty = key(), key(), key()
    data = os.urandom(BIG)
    pieces = [data[at : at + 300_001] for at in range(0, BIG, 300_001)]
    assert await blobs.put(big, of(*pieces)) == BIG
    assert await blobs.put(small, of(b"sm", b"all")) == 5
    assert await blobs.put(empty, of()) == 0
    assert [await blobs.size(one) for one in (big, small, empty, key())] == [BIG, 5, 0, None]
    assert await read(blobs, big) == data
    assert await read(blobs, empty) == b""
    assert await read(blobs, small, 1, 3) == b"mal"
    assert await read(blobs, small, 4) == b"l"
    assert (
        await read(blobs, big, PIECE_BYTES - 1, PIECE_BYTES + 2) == data[PIECE_BYTES - 1 :][: PIECE_BYTES + 2]
    )
    assert max([len(piece) async for piece in blobs.read(big)]) <= PIECE_BYTES


async def test_what_is_not_there_is_gone_and_may_be_deleted_again(blobs: Blobs, left) -> None:
    keys = [key() for _ in range(3)]
    for one in keys:
        await blobs.put(one, of(b"x"))
    await blobs.delete(keys[:2])
    await blobs.delete(keys[:2])
    assert left() == 1
    with pytest.raises(BlobGone):
        await read(blobs, keys[0])
    assert await read(blobs, keys[2]) == b"x"


@pytest.mark.parametrize("size", [10, BIG])
async def test_what_breaks_off_leaves_nothing(blobs: Blobs, left, size: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(size)
        raise ValueError("the client has gone")

    one = key()
    with pytest.raises(ValueError, match="has gone"):
        await blobs.put(one, broken())
    await until(left, 0)
    assert await blobs.size(one) is None


async def test_whoever_is_cancelled_leaves_nothing(blobs: Blobs, left) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield bytes(BIG)
        begun.set()
        await never.wait()

    for ends in (False, True):
        begun.clear()
        task = asyncio.create_task(blobs.put(key(), stuck()))
        await begun.wait()
        if ends:
            blobs.close()  # as the process does
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if not ends:
            await until(left, 0)


@pytest.mark.parametrize(
    ("size", "operation"),
    [
        (10, "PutObject"),
        (BIG, "CreateMultipartUpload"),
        (BIG, "UploadPart"),
        (BIG, "CompleteMultipartUpload"),
    ],
)
async def test_what_arrives_after_it_was_given_up_is_deleted(
    s3_environment: dict[str, str], size: int, operation: str
) -> None:
    """A call to S3 cannot be cancelled; the sweep may have been there before it arrives."""
    blobs, events = S3Blobs(Bucket(BUCKET, "late/")), clients.client("s3").meta.events
    sending, goes_on, arrived = Event(), Event(), Event()

    def hold(**_: object) -> None:
        sending.set()
        goes_on.wait()

    def arrive(**_: object) -> None:
        arrived.set()

    s3 = boto3.client("s3")

    def left() -> int:
        found = s3.list_objects_v2(Bucket=BUCKET)["KeyCount"]
        return found + len(s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()))

    events.register(f"before-send.s3.{operation}", hold)
    events.register(f"after-call.s3.{operation}", arrive)
    try:
        task = asyncio.create_task(blobs.put(key(), of(bytes(size))))
        await asyncio.to_thread(sending.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()
        await asyncio.to_thread(arrived.wait)
        await until(left, 0)
    finally:
        goes_on.set()
        events.unregister(f"before-send.s3.{operation}", hold)
        events.unregister(f"after-call.s3.{operation}", arrive)
    blobs.close()


async def test_what_a_killed_process_left_goes_with_its_key(blobs: Blobs, left) -> None:
    one, other = key(), key()
    if isinstance(blobs, LocalBlobs):
        for name in (one, other):
            path = blobs._path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f"{path.name}.part").write_bytes(b"half")
    else:
        s3 = boto3.client("s3")
        for name in (one, other):
            s3.create_multipart_upload(Bucket=BUCKET, Key=f"some/where/{name}")
    assert left() == 2
    await blobs.delete([one])
    assert left() == 2
    await blobs.delete([one], abandoned=True)
    assert left() == 1, "the other one is still being written"


async def test_only_keys_are_keys(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    for name in ("../../etc/passwd", "a/b", "/etc/passwd", f"{key()}/x", ""):
        with pytest.raises(ValueError, match="no key"):
            await blobs.size(name)


async def test_no_link_is_followed(tmp_path: Path) -> None:
    """U7: what a folder of ours contains may have been put there by others."""
    blobs, one = LocalBlobs(tmp_path / "blobs"), key()
    target = tmp_path / "target"
    target.write_text("secret")
    path = blobs._path(one)
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    with pytest.raises(StoreSilent):
        await read(blobs, one)
    path.unlink()
    path.with_name(f"{path.name}.part").symlink_to(tmp_path / "dangling")
    with pytest.raises(StoreSilent):
        await blobs.put(one, of(b"x"))
    assert target.read_text() == "secret"
    assert not (tmp_path / "dangling").exists()


async def test_files_are_their_owners(tmp_path: Path) -> None:
    blobs, one = LocalBlobs(tmp_path / "blobs"), key()
    await blobs.put(one, of(b"x"))
    path = blobs._path(one)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_store_that_does_not_answer_is_said_to(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = blobs_of(Settings.load(blobs="s3://no-such-bucket"))
    with pytest.raises(StoreSilent):
        await blobs.put(key(), of(b"x"))
    with pytest.raises(StoreSilent):
        await blobs.delete([key()])


async def test_others_write_and_read_by_urls(s3_environment: dict[str, str]) -> None:
    blobs, one = blobs_of(Settings.load(blobs=f"s3://{BUCKET}")), key()
    upload = await blobs.upload_url(one, 5, 60)
    # Both are signed, so that S3 itself sees to the size and to that a live blob never changes.
    assert "X-Amz-SignedHeaders=content-length%3Bhost%3Bif-none-match" in upload.url
    assert "checksum" not in upload.url
    async with httpx.AsyncClient() as client:
        answer = await client.request(upload.method, upload.url, content=b"hello", headers=upload.headers)
        assert answer.status_code == 200, answer.text
        assert await blobs.size(one) == 5
        again = await client.request(upload.method, upload.url, content=b"other", headers=upload.headers)
        assert again.status_code == 412
        url = await blobs.download_url(
            one, 60, content_type="text/plain", disposition="attachment; filename=a.txt"
        )
        answer = await client.get(url)
    assert answer.content == b"hello"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-disposition"] == "attachment; filename=a.txt"
