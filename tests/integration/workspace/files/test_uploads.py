"""Uploads over HTTP, in the application with its own Postgres, kept in a folder and in S3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest

from slackwater.blobs.sweep import sweep
from tests.support.api import Api

BUCKET = "files"
UPLOADED = "mnt/user-data/uploads"
GRAPHS = Path(__file__).parents[3] / "graphs"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project that allows little."""
    folder = tmp_path / "project"
    folder.mkdir()
    uploads = {"max_files": 3, "max_file_size": 1000, "max_total_size": 2000}
    content = {"graphs": {"echo": f"{GRAPHS}/graphs.py:echo"}, "gateway": {"uploads": uploads}}
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": [str(GRAPHS)], **content}))
    return folder


@pytest.fixture(params=["file", "s3"])
async def api(
    request: pytest.FixtureRequest, serve: Callable[..., Any], tmp_path: Path, small: Path
) -> AsyncIterator[Api]:
    blobs = f"file:{tmp_path}/blobs"
    if request.param == "s3":
        request.getfixturevalue("s3_environment")
        blobs = f"s3://{BUCKET}"
    # A body of JSON may have less than an upload.
    async with serve(
        gateway=True, blobs=blobs, project=small, names=("alice", "bob"), max_body_bytes=500
    ) as api:
        yield api


@pytest.fixture
def alice(api: Api) -> httpx.AsyncClient:
    return api.client("alice")


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", file) for file in files]


async def contents(client: httpx.AsyncClient, thread: str) -> dict[str, bytes]:
    listed = (await client.get(f"/api/threads/{thread}/uploads/list")).json()
    assert listed["count"] == len(listed["files"])
    return {file["filename"]: (await client.get(file["artifact_url"])).content for file in listed["files"]}


async def kept(api: Api, tmp_path: Path) -> int:
    """How many objects there are when the sweep has gone over them."""
    blobs = api.services.blobs
    assert blobs is not None
    await sweep(api.database, blobs)
    if blobs.presigns:
        return int(boto3.client("s3").list_objects_v2(Bucket=BUCKET)["KeyCount"])
    return sum(path.is_file() for path in (tmp_path / "blobs").rglob("*"))


async def test_files_are_uploaded_before_the_thread_is_there_and_listed_read_and_deleted(
    api: Api, alice: httpx.AsyncClient, tmp_path: Path
) -> None:
    """U1, U2, U6, U8, U10, U12, U13."""
    thread, other = str(uuid4()), str(uuid4())
    url = f"/api/threads/{thread}/uploads"
    assert (await alice.get(f"{url}/limits")).json() == {
        "max_files": 3,
        "max_file_size": 1000,
        "max_total_size": 2000,
    }
    assert (await alice.get(f"{url}/list")).json() == {"files": [], "count": 0}

    # U1, U2: integers, and the second of a name gets another
    answer = await alice.post(url, files=form(("a.txt", b"one"), ("a.txt", b"two"), ("ü b.csv", b"x" * 1000)))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["success"] is True
    assert body["message"] == "Successfully uploaded 3 file(s)"
    assert body["skipped_files"] == []
    first, second, third = body["files"]
    assert first == {
        "filename": "a.txt",
        "size": 3,
        "path": "/mnt/user-data/uploads/a.txt",
        "virtual_path": "/mnt/user-data/uploads/a.txt",
        "artifact_url": f"/api/threads/{thread}/artifacts/mnt/user-data/uploads/a.txt",
        "extension": ".txt",
        "modified": first["modified"],
        "original_filename": None,
        "markdown_file": None,
        "markdown_path": None,
        "markdown_virtual_path": None,
        "markdown_artifact_url": None,
    }
    assert isinstance(first["modified"], float)
    assert (second["filename"], second["original_filename"]) == ("a_1.txt", "a.txt")
    assert third["artifact_url"].endswith("/uploads/%C3%BC%20b.csv")
    assert await contents(alice, thread) == {"a.txt": b"one", "a_1.txt": b"two", "ü b.csv": b"x" * 1000}

    # U8: the same name again replaces it
    await alice.post(url, files=form(("a.txt", b"three")))
    assert (await contents(alice, thread))["a.txt"] == b"three"
    assert await kept(api, tmp_path) == 3

    # U6: names without one are left out, and folders are no part of a name
    answer = await alice.post(url, files=form(("..", b"x"), (".", b"x"), ("../../etc/passwd", b"root")))
    assert [file["filename"] for file in answer.json()["files"]] == ["passwd"]
    assert answer.json()["skipped_files"] == ["..", "."]
    for name in ("a\\b.txt", "x" * 256):
        answer = await alice.post(url, files=form((name, b"x")))
        assert answer.json()["files"] == [], name

    # U13: no traversal by deletion
    assert (await alice.delete(f"{url}/%2e%2e")).status_code == 400
    assert (await alice.delete(f"{url}/..%5ca.txt")).status_code == 400
    assert (await alice.delete(f"{url}/%2e%2e%2fa.txt")).status_code in (404, 405)
    answer = await alice.delete(f"{url}/a.txt")
    assert answer.json() == {"success": True, "message": "Deleted a.txt"}
    answer = await alice.delete(f"{url}/a.txt")
    assert (answer.status_code, answer.json()) == (404, {"detail": "File not found: a.txt"})

    # The thread comes, and it is theirs; what is another's is not there
    assert (await alice.post("/threads", json={"thread_id": thread})).status_code == 200
    assert len(await contents(alice, thread)) == 3
    bob = api.client("bob")
    for method, path, more, sentence in (
        ("POST", "uploads", {"files": form(("a.txt", b"x"))}, f"Thread {thread} not found"),
        ("GET", "uploads/list", {}, f"Thread {thread} not found"),
        ("GET", "uploads/limits", {}, f"Thread {thread} not found"),
        # As of a thread that is not there
        ("DELETE", "uploads/passwd", {}, "File not found: passwd"),
        ("GET", f"artifacts/{UPLOADED}/passwd", {}, f"Artifact not found: {UPLOADED}/passwd"),
    ):
        answer = await bob.request(method, f"/api/threads/{thread}/{path}", **more)
        assert (answer.status_code, answer.json()) == (404, {"detail": sentence}), path
    # What both have uploaded before a thread was there is kept apart, and does not go with the other's thread.
    await alice.post(f"/api/threads/{other}/uploads", files=form(("a.txt", b"of alice")))
    await bob.post(f"/api/threads/{other}/uploads", files=form(("a.txt", b"of bob")))
    assert await contents(bob, other) == {"a.txt": b"of bob"}
    assert await contents(alice, other) == {"a.txt": b"of alice"}
    await bob.post("/threads", json={"thread_id": other})
    assert (await bob.delete(f"/threads/{other}")).status_code == 204
    assert await contents(alice, other) == {"a.txt": b"of alice"}
    assert await contents(bob, other) == {}

    # Of a thread that never came, files go by its deletion at the gateway, and only one's own
    assert (await bob.delete(f"/api/threads/{other}")).status_code == 200
    assert await contents(alice, other) == {"a.txt": b"of alice"}
    never = str(uuid4())
    await alice.post(f"/api/threads/{never}/uploads", files=form(("a.txt", b"x")))
    assert (await bob.delete(f"/api/threads/{never}")).status_code == 404
    assert len(await contents(alice, never)) == 1
    assert (await alice.delete(f"/api/threads/{never}")).status_code == 200
    assert await contents(alice, never) == {}

    # With the thread its files go
    assert (await alice.delete(f"/threads/{thread}")).status_code == 204
    assert await kept(api, tmp_path) == 1


async def test_what_is_too_much_is_refused_and_leaves_everything_as_it_was(
    api: Api, alice: httpx.AsyncClient, tmp_path: Path
) -> None:
    """U3, U4, U5, U11, and the upload that was lost when a larger one was to replace it."""
    thread = str(uuid4())
    url = f"/api/threads/{thread}/uploads"
    await alice.post(url, files=form(("a.txt", b"one")))
    small = ("b.txt", b"b")
    for files, sentence in (
        ([small] * 4, "Too many files: at most 3 at a time"),
        ([small, ("a.txt", b"x" * 1001)], "File too large: a.txt"),
        ([("a.txt", b"x" * 999)] * 3, "Total upload size too large: send fewer files at a time"),
        # Refused by what it says of itself
        ([("a.txt", b"x" * 100_000)], "Total upload size too large: send fewer files at a time"),
    ):
        answer = await alice.post(url, files=form(*files))
        assert (answer.status_code, answer.json()) == (413, {"detail": sentence})
        assert await contents(alice, thread) == {"a.txt": b"one"}
        assert await kept(api, tmp_path) == 1


async def test_a_form_without_an_end_or_without_files_is_refused(
    api: Api, alice: httpx.AsyncClient, tmp_path: Path
) -> None:
    url = f"/api/threads/{uuid4()}/uploads"
    kind = {"content-type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello'
    for body, headers in (
        (part, kind),
        (part + b"\r\n--b", kind),
        (b"no form at all", kind),
        (part + b"\r\n--b--", {"content-type": "application/json"}),
        (part + b"\r\n--b--", {"content-type": "multipart/form-data"}),
        (b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nno file\r\n--b--', kind),
        (b"--b\r\n" + b"X: y\r\n" * 100 + b"\r\nhello\r\n--b--", kind),
        (b"--b\r\nX: " + b"y" * 100_000, kind),
    ):
        answer = await alice.post(url, content=body, headers=headers)
        assert answer.status_code in (400, 413), (body[:80], answer.text)
    assert (await alice.get(f"{url}/list")).json()["count"] == 0
    assert await kept(api, tmp_path) == 0
    # Other fields are fine, and a part may come in any pieces.
    whole = b'--b\r\nContent-Disposition: form-data; name="more"\r\n\r\nfield\r\n' + part + b"\r\n--b--\r\n"

    async def bytewise() -> AsyncIterator[bytes]:
        for at in range(len(whole)):
            yield whole[at : at + 1]

    answer = await alice.post(url, content=bytewise(), headers=kind)
    assert [file["size"] for file in answer.json()["files"]] == [5], answer.text


async def test_whoever_leaves_in_the_middle_leaves_nothing(
    api: Api, alice: httpx.AsyncClient, tmp_path: Path
) -> None:
    begun = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello'
        begun.set()
        raise httpx.WriteError("gone")

    url = f"/api/threads/{uuid4()}/uploads"
    with pytest.raises(httpx.WriteError):
        await alice.post(url, content=body(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert (await alice.get(f"{url}/list")).json()["count"] == 0
    await api.database.execute("update slackwater.blobs set changed_at = now() - interval '2 hours'")
    assert await kept(api, tmp_path) == 0


async def test_an_owner_has_as_much_as_they_may(api: Api, alice: httpx.AsyncClient, tmp_path: Path) -> None:
    await api.database.execute("insert into slackwater.limits (owner, file_bytes) values ('alice', 1500)")
    one, other = (f"/api/threads/{uuid4()}/uploads" for _ in range(2))
    assert (await alice.post(one, files=form(("a", b"x" * 1000)))).status_code == 200
    answer = await alice.post(other, files=form(("b", b"x" * 501)))
    assert answer.status_code == 413
    assert "--file-bytes" not in answer.text
    assert "SLACKWATER_MAX_FILE_BYTES_PER_OWNER" in answer.text
    assert (await alice.post(one, files=form(("a", b"x" * 900), ("b", b"x" * 600)))).status_code == 200
    assert await kept(api, tmp_path) == 2
    assert (await api.client("bob").post(other, files=form(("b", b"x" * 501)))).status_code == 200
