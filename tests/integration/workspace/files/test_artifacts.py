"""What is read, and what a browser may do with it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from slackwater.blobs import files, queries
from slackwater.blobs.blobs import new_key
from slackwater.blobs.queries import NewFile
from slackwater.web.delivery import SCOPE_KEY, Delivery
from slackwater.workspace.files import service
from tests.support.api import Api

BUCKET = "files"


@pytest.fixture(params=["file", "s3"])
async def api(
    request: pytest.FixtureRequest, serve: Callable[..., Any], tmp_path: Path
) -> AsyncIterator[Api]:
    blobs = f"file:{tmp_path}/blobs"
    if request.param == "s3":
        request.getfixturevalue("s3_environment")
        blobs = f"s3://{BUCKET}"
    async with serve(gateway=True, blobs=blobs) as api:
        yield api


@pytest.fixture
def http(api: Api) -> httpx.AsyncClient:
    return api.client()


async def make(api: Api, thread: UUID, path: str, content: bytes) -> str:
    """A file, as a run leaves it; its URL."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    blobs = api.services.blobs
    assert blobs is not None
    key = new_key("local", thread)
    await queries.stage(api.database, [key])
    new = NewFile(path, key, await blobs.put(key, chunks()), None)
    await files.save(api.database, "local", thread, [new], 0)
    return f"/api/threads/{thread}/artifacts/mnt/user-data/{path}"


def archive(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name.replace("__", "/"), content)
    return made.getvalue()


async def test_what_is_shown_and_what_is_only_saved(api: Api, http: httpx.AsyncClient) -> None:
    """V1, V2, V3, V5, and the defect that XML was shown and sniffed."""
    thread = uuid4()
    png = b"\x89PNG\r\n\x1a\n\0\0"
    for name, content, kind, disposition in (
        ("a.txt", "grün".encode(), "text/plain; charset=utf-8", None),
        ("a.md", b"# Hello", "text/markdown; charset=utf-8", None),
        ("a.json", b"{}", "application/json; charset=utf-8", None),
        ("Makefile", b"all:", "text/plain; charset=utf-8", None),
        ("empty.txt", b"", "text/plain; charset=utf-8", None),
        ("data.bin", b"a\0b", "application/octet-stream", "inline; filename*=UTF-8''data.bin"),
        ("odd.txt", b"a\0b", "text/plain", "inline; filename*=UTF-8''odd.txt"),
        ("ü 1.png", png, "image/png", "inline; filename*=UTF-8''%C3%BC%201.png"),
        ("text.pdf", b"%PDF-1.7", "application/pdf", "inline; filename*=UTF-8''text.pdf"),
        *(
            (
                f"active.{suffix}",
                b"<a/>",
                f"{kind}; charset=utf-8",
                f"attachment; filename*=UTF-8''active.{suffix}",
            )
            for suffix, kind in {
                "html": "text/html",
                "HTM": "text/html",
                "xhtml": "application/xhtml+xml",
                "xml": "text/xml",
                "rss": "application/rss+xml",
            }.items()
        ),
        ("active.svg", b"<svg/>", "image/svg+xml", "attachment; filename*=UTF-8''active.svg"),
    ):
        answer = await http.get(await make(api, thread, f"outputs/{name}", content))
        assert answer.status_code == 200, (name, answer.text)
        assert answer.content == content, name
        told = answer.headers
        if name.endswith(".rss"):  # not every list of types has it
            assert (
                told["content-type"] != "application/rss+xml" or "attachment" in told["content-disposition"]
            )
            continue
        assert told["content-type"] == kind, name
        assert told.get("content-disposition") == disposition, name
        assert told["x-content-type-options"] == "nosniff"
        assert ("sandbox" in told["content-security-policy"]) == ("active" in name)
        assert "script-src" not in told["content-security-policy"]
        saved = await http.get(answer.url, params={"download": "true"})
        assert saved.headers["content-disposition"].startswith("attachment; filename*=UTF-8''"), name
        assert "sandbox" in saved.headers["content-security-policy"]


async def test_what_is_not_there_and_what_is_no_file(api: Api, http: httpx.AsyncClient) -> None:
    thread = uuid4()
    await make(api, thread, "outputs/sub/a.txt", b"hello")
    base = f"/api/threads/{thread}/artifacts"
    for path, status, detail in (
        ("mnt/user-data/outputs/b.txt", 404, "Artifact not found: mnt/user-data/outputs/b.txt"),
        ("mnt/user-data/outputs/sub", 400, "Path is not a file: mnt/user-data/outputs/sub"),
        ("mnt/user-data/outputs", 400, "Path is not a file: mnt/user-data/outputs"),
        ("mnt/user-data", 400, "Path is not a file: mnt/user-data"),
        ("mnt/user-database/a.txt", 400, "The path must begin with /mnt/user-data."),
        ("etc/passwd", 400, "The path must begin with /mnt/user-data."),
        ("mnt/user-data/%2e%2e/%2e%2e/etc/passwd", 403, "Access denied: path traversal detected"),
        ("mnt/user-data/outputs/%00", 400, "The path must begin with /mnt/user-data."),
        ("mnt/user-data/outputs/sub/a.txt/b", 404, "Artifact not found: mnt/user-data/outputs/sub/a.txt/b"),
    ):
        answer = await http.get(f"{base}/{path}")
        assert (answer.status_code, answer.json()) == (status, {"detail": detail}), path
    assert (await http.get("/api/threads/nonsense/artifacts/mnt/user-data/a")).status_code == 422
    # The page writes it with two slashes, and by hand there may be more
    for path in ("/mnt/user-data/outputs/sub/a.txt", "mnt/user-data//outputs/./sub/a.txt"):
        assert (await http.get(f"{base}/{path}")).text == "hello", path


async def test_parts_and_versions(api: Api, http: httpx.AsyncClient) -> None:
    thread, data = uuid4(), bytes(range(256)) * 4000
    url = await make(api, thread, "outputs/film.mp4", data)
    whole = await http.get(url)
    assert whole.content == data
    assert whole.headers["accept-ranges"] == "bytes"
    etag = whole.headers["etag"]
    for asked, status, content, told in (
        ("bytes=0-9", 206, data[:10], f"bytes 0-9/{len(data)}"),
        ("bytes=1000-", 206, data[1000:], f"bytes 1000-{len(data) - 1}/{len(data)}"),
        ("bytes=-5", 206, data[-5:], f"bytes {len(data) - 5}-{len(data) - 1}/{len(data)}"),
        (f"bytes=5-{10**30}", 206, data[5:], f"bytes 5-{len(data) - 1}/{len(data)}"),
        (f"bytes={len(data)}-", 416, None, f"bytes */{len(data)}"),
        ("bytes=-0", 416, None, f"bytes */{len(data)}"),
        ("bytes=9-3", 200, data, None),
        ("bytes=0-1,5-6", 200, data, None),
        ("lines=0-1", 200, data, None),
    ):
        answer = await http.get(url, headers={"range": asked})
        assert answer.status_code == status, asked
        assert content is None or answer.content == content, asked
        assert answer.headers.get("content-range") == told, asked
    assert (await http.get(url, headers={"range": "bytes=0-1", "if-range": etag})).status_code == 206
    assert (await http.get(url, headers={"range": "bytes=0-1", "if-range": '"old"'})).status_code == 200
    for tags in (etag, f'"x", W/{etag}', "*"):
        answer = await http.get(url, headers={"if-none-match": tags})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    await make(api, thread, "outputs/film.mp4", b"new")
    answer = await http.get(url, headers={"if-none-match": etag})
    assert (answer.status_code, answer.content) == (200, b"new")
    assert answer.headers["etag"] != etag


async def test_members_of_archives(api: Api, http: httpx.AsyncClient) -> None:
    """V1 inside an archive, V4, and I4: a name leads nowhere."""
    thread = uuid4()
    big = b"\0" * (16 * 1024 * 1024 + 1)
    made = archive(
        **{"skill__SKILL.md": b"# Skill", "skill__page.html": b"<p/>", "big.txt": big, "a.txt": b"root"}
    )
    # One that lies about the size of its member, which is said twice
    lying = bytearray(archive(**{"lie.txt": big}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = lying.index(signature) + offset
        lying[at : at + 4] = (10).to_bytes(4, "little")
    many = archive(**{f"{number:0200}": b"" for number in range(20_000)})
    url = await make(api, thread, "outputs/x.skill", made)
    await make(api, thread, "outputs/lying.skill", bytes(lying))
    await make(api, thread, "outputs/many.skill", many)
    await make(api, thread, "outputs/none.skill", b"PK no archive")
    base = url.removesuffix("/x.skill")
    answer = await http.get(f"{url}/SKILL.md")
    assert answer.text == "# Skill"
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.headers["cache-control"] == "private, max-age=300"
    assert (await http.get(f"{url}/skill/SKILL.md")).text == "# Skill"
    assert (await http.get(f"{url}/a.txt")).text == "root"
    answer = await http.get(f"{url}/page.html")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''page.html"
    assert "sandbox" in answer.headers["content-security-policy"]
    for path, status in (
        ("x.skill/big.txt", 413),
        ("lying.skill/lie.txt", 404),  # what comes is not what it says: its checksum tells
        ("many.skill/1", 413),
        ("none.skill/SKILL.md", 404),
        ("no.skill/SKILL.md", 404),
        ("x.skill/no.txt", 404),
        ("x.skill/%2e%2e/x", 403),
    ):
        assert (await http.get(f"{base}/{path}")).status_code == status, path
    assert (await http.get(url)).content == made


async def test_what_lambda_cannot_send_is_read_from_s3(
    api: Api, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = uuid4()
    monkeypatch.setattr(service, "BUFFERED_BYTES", 100)
    monkeypatch.setattr(service, "RESPONSE_BYTES", 150)
    large = await make(api, thread, "outputs/page.html", b"x" * 101)
    small = await make(api, thread, "outputs/small.txt", b"x" * 100)
    # Inside JSON it is three times as long
    umlauts = await make(api, thread, "outputs/ä.txt", "ä".encode() * 30)
    members = await make(
        api,
        thread,
        "outputs/x.skill",
        archive(**{"a.md": b"x" * 140, "b.md": b"\n" * 100, "c.png": b"x" * 100}),
    )

    async def buffered(scope: Any, receive: Any, send: Any) -> None:
        state = {"state": dict(api.state), SCOPE_KEY: Delivery(until=1e12, live=False)}
        await api.app({**scope, **state}, receive, send)

    transport = httpx.ASGITransport(buffered, client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:2024") as client:
        assert (await client.get(small)).content == b"x" * 100
        assert (await client.get(large, headers={"range": "bytes=0-49"})).content == b"x" * 50
        answer = await client.get(large)
        longer = await client.get(umlauts)
        for name, status in (("a.md", 200), ("b.md", 413), ("c.png", 413)):
            assert (await client.get(f"{members}/{name}")).status_code == status, name
    assert api.services.blobs is not None
    if not api.services.blobs.presigns:
        assert (answer.status_code, longer.status_code) == (200, 200)
        return
    assert (answer.status_code, longer.status_code) == (307, 307)
    assert answer.headers["cache-control"] == "no-store"
    async with httpx.AsyncClient() as client:
        followed = await client.get(answer.headers["location"])
    assert followed.content == b"x" * 101
    assert followed.headers["content-disposition"] == "attachment; filename*=UTF-8''page.html"
    assert (await http.get(large)).status_code == 200, "a container sends it itself"
