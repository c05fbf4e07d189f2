"""Uploads that meet a stop, and two processes that replace the same file: nobody ever sees half of one."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from slackwater.blobs.local import LocalBlobs
from slackwater.blobs.sweep import sweep
from slackwater.postgres.pool import Database
from tests.support.server import ServerProcess, fleet_of

GRAPHS = Path(__file__).parents[3] / "graphs"
ENV = {"SLACKWATER_GATEWAY": "true", "SLACKWATER_SWEEP_SECONDS": "1000"}
CONTENT = b"x" * 2_000_000


def begin(server: ServerProcess, thread: str) -> socket.socket:
    """Send half of an upload; the other half never comes."""
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n' + CONTENT
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port))
    connection.sendall(
        f"POST /api/threads/{thread}/uploads HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {2 * len(part)}\r\n\r\n".encode()
        + part
    )
    return connection


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("how", ["sigterm", "sigkill"])
async def test_an_upload_that_meets_a_stop_is_nowhere(
    database_uri: str, database: Database, tmp_path: Path, how: str
) -> None:
    blobs, thread = tmp_path / "blobs", str(uuid4())
    env = {**ENV, "SLACKWATER_BLOBS": f"file:{blobs}"}
    async with fleet_of(database_uri, tmp_path, GRAPHS, env) as fleet:
        (server,) = await fleet.start()
        async with httpx.AsyncClient(base_url=server.url, verify=False) as client:
            old = {"files": ("a.txt", b"old")}
            assert (await client.post(f"/api/threads/{thread}/uploads", files=old)).status_code == 200
        with begin(server, thread):
            # It is in the middle: half of a file is there, below another name.
            async with asyncio.timeout(30):
                while not any(path.stat().st_size > 1_000_000 for path in kept(blobs)):
                    await asyncio.sleep(0.01)
            getattr(server, how)()
            await server.wait()
        (other,) = await fleet.start()
        async with httpx.AsyncClient(base_url=other.url, verify=False) as client:
            listed = (await client.get(f"/api/threads/{thread}/uploads/list")).json()
            assert [file["size"] for file in listed["files"]] == [3]
            assert (await client.get(listed["files"][0]["artifact_url"])).content == b"old"
        await database.execute("update slackwater.blobs set changed_at = now() - interval '2 hours'")
        await sweep(database, LocalBlobs(blobs))
        assert [path.read_bytes() for path in kept(blobs)] == [b"old"]
        assert len(await database.fetch("select 1 from slackwater.blobs")) == 1
    assert fleet.complaints == []


async def test_two_processes_that_replace_the_same_file_leave_one_of_them_whole(
    database_uri: str, database: Database, tmp_path: Path
) -> None:
    blobs, thread = tmp_path / "blobs", str(uuid4())
    env = {**ENV, "SLACKWATER_BLOBS": f"file:{blobs}"}
    async with fleet_of(database_uri, tmp_path, GRAPHS, env) as fleet:
        servers = await fleet.start(2)
        versions = [bytes([number]) * 300_000 for number in range(12)]
        whole = {hashlib.sha256(version).digest() for version in versions}
        url, over = f"/api/threads/{thread}/artifacts/mnt/user-data/uploads/a.bin", asyncio.Event()

        async def write(client: httpx.AsyncClient, version: bytes) -> int:
            files = {"files": ("a.bin", version)}
            return (await client.post(f"/api/threads/{thread}/uploads", files=files)).status_code

        async def read(client: httpx.AsyncClient) -> set[bytes]:
            seen = set()
            while not over.is_set():
                answer = await client.get(url)
                if answer.status_code == 200:
                    seen.add(hashlib.sha256(answer.content).digest())
            return seen

        async with (
            httpx.AsyncClient(base_url=servers[0].url, verify=False, timeout=60) as one,
            httpx.AsyncClient(base_url=servers[1].url, verify=False, timeout=60) as two,
        ):
            reader = asyncio.create_task(read(two))
            statuses = await asyncio.gather(
                *(write((one, two)[number % 2], version) for number, version in enumerate(versions))
            )
            over.set()
            assert set(statuses) == {200}
            assert await reader <= whole
            last = (await one.get(url)).content
        assert last in versions
        await sweep(database, LocalBlobs(blobs))
        assert [path.read_bytes() for path in kept(blobs)] == [last]
    assert fleet.complaints == []
