"""Uploads by URLs of S3, and documents as Markdown."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import httpx
import pytest

from slackwater.blobs import queries
from slackwater.blobs.blobs import new_key
from slackwater.blobs.files import save
from slackwater.blobs.queries import NewFile
from slackwater.blobs.sweep import sweep
from slackwater.workspace.files import conversion
from slackwater.workspace.node_files.queries import Changes
from tests.support.api import Api

BUCKET = "files"


@pytest.fixture
async def api(serve: Callable[..., Any], s3_environment: dict[str, str]) -> AsyncIterator[Api]:
    async with serve(gateway=True, blobs=f"s3://{BUCKET}/a", names=("alice", "bob")) as api:
        yield api


async def test_files_are_sent_to_s3_and_become_files_when_all_are_there(api: Api) -> None:
    alice, thread = api.client("alice"), str(uuid4())
    url = f"/api/threads/{thread}/uploads"
    wanted = {"files": [{"filename": "a.txt", "size": 5}, {"filename": "x/b.txt", "size": 3}]}
    uploads = (await alice.post(f"{url}/presign", json=wanted)).json()["uploads"]
    assert [upload["filename"] for upload in uploads] == ["a.txt", "b.txt"]
    body = {"files": [{"upload_id": one["upload_id"], "filename": one["filename"]} for one in uploads]}

    async with httpx.AsyncClient() as client:

        async def put(number: int, content: bytes) -> int:
            one = uploads[number]
            return (
                await client.request(one["method"], one["url"], content=content, headers=one["headers"])
            ).status_code

        assert await put(0, b"hello") == 200
        # The second is not there yet: none becomes a file
        assert (await alice.post(f"{url}/complete", json=body)).status_code == 409
        assert (await alice.get(f"{url}/list")).json()["count"] == 0
        # moto takes any size; S3 itself refuses what was not signed
        assert await put(1, b"four") == 200
        assert (await alice.post(f"{url}/complete", json=body)).status_code == 409
        boto3.client("s3").delete_object(Bucket=BUCKET, Key=f"a/{uploads[1]['upload_id']}")
        assert await put(1, b"bye") == 200

    # Nobody else completes it, nor does its owner elsewhere
    bob = api.client("bob")
    assert (await bob.post(f"{url}/complete", json=body)).status_code == 404
    assert (await alice.post(f"/api/threads/{uuid4()}/uploads/complete", json=body)).status_code == 404
    first = await alice.post(f"{url}/complete", json=body)
    assert [(file["filename"], file["size"]) for file in first.json()["files"]] == [
        ("a.txt", 5),
        ("b.txt", 3),
    ]
    # Whoever did not hear the answer asks again
    assert (await alice.post(f"{url}/complete", json=body)).json() == first.json()
    assert (await alice.get(first.json()["files"][0]["artifact_url"])).text == "hello"

    for files, status in (
        ([{"filename": "a", "size": 10**12}], 413),
        ([{"filename": "a", "size": 1}] * 11, 413),
        ([{"filename": "a", "size": 50 * 1024 * 1024}] * 3, 413),
        ([{"filename": "..", "size": 1}], 400),
        ([{"filename": "a", "size": -1}], 422),
        ([], 422),
    ):
        assert (await alice.post(f"{url}/presign", json={"files": files})).status_code == status, files

    # While somebody may still write it, a deleted file's blob is remembered
    assert api.services.blobs is not None
    await alice.delete(f"{url}/a.txt")
    assert await sweep(api.database, api.services.blobs) == 0
    await api.database.execute("update slackwater.blobs set writable_until = now() - interval '1 second'")
    assert await sweep(api.database, api.services.blobs) == 1
    assert boto3.client("s3").list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1


async def test_a_folder_has_no_urls(serve: Callable[..., Any], tmp_path: Path) -> None:
    async with serve(gateway=True, blobs=f"file:{tmp_path}/blobs") as api:
        answer = await api.client().post(
            f"/api/threads/{uuid4()}/uploads/presign", json={"files": [{"filename": "a", "size": 1}]}
        )
    assert answer.status_code == 400
    assert "send the files themselves" in answer.json()["detail"]


def docx(text: str) -> bytes:
    made = io.BytesIO()
    w = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    rel = "http://schemas.openxmlformats.org/package/2006/relationships"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{kind}"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{rel}"><Relationship Id="r" Type="{office}" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/document.xml",
            f'<w:document xmlns:w="{w}"><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>',
        )
    return made.getvalue()


async def staged(api: Api, thread: str, path: str) -> NewFile:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"new"

    assert api.services.blobs is not None
    key = new_key("local", UUID(thread))
    await queries.stage(api.database, [key])
    return NewFile(path, key, await api.services.blobs.put(key, chunks()), None)


async def test_documents_are_kept_as_markdown_too(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U9, and the converted document that replaced somebody's own file."""
    graphs = Path(__file__).parents[3] / "graphs"
    (tmp_path / "langgraph.json").write_text(
        f'{{"dependencies": ["{graphs}"], "graphs": {{"echo": "{graphs}/graphs.py:echo"}}, '
        '"gateway": {"uploads": {"auto_convert_documents": true}}}'
    )
    monkeypatch.setattr(conversion, "SECONDS", 120.0)  # of a machine that does much else
    async with serve(gateway=True, blobs=f"file:{tmp_path}/blobs", project=tmp_path) as api:
        http, thread = api.client(), str(uuid4())
        url = f"/api/threads/{thread}/uploads"

        async def upload(*files: tuple[str, bytes]) -> list[dict[str, Any]]:
            answer = await http.post(url, files=[("files", file) for file in files], timeout=300)
            assert answer.status_code == 200, answer.text
            return list(answer.json()["files"])

        async def names() -> list[str]:
            return [file["filename"] for file in (await http.get(f"{url}/list")).json()["files"]]

        await upload(("report.md", b"my own"))
        (report, broken) = await upload(
            ("report.docx", docx("Hello there")), ("broken.docx", b"PK\x03\x04 broken")
        )
        assert report["markdown_file"] == "report_1.md"
        assert report["markdown_virtual_path"] == "/mnt/user-data/uploads/report_1.md"
        assert (await http.get(report["markdown_artifact_url"])).text.strip() == "Hello there"
        assert broken["markdown_file"] is None
        # A new version has a new copy, in the place of the old one
        (report,) = await upload(("report.docx", docx("Good bye")))
        assert (await http.get(report["markdown_artifact_url"])).text.strip() == "Good bye"
        assert await names() == ["broken.docx", "report.docx", "report.md", "report_1.md"]
        # A name that is free in the request only is not free
        await upload(("note.md", b"mine"), ("note_1_1.md", b"mine"))
        (note, _) = await upload(("note.docx", docx("Note")), ("note_1.md", b"mine"))
        assert note["markdown_file"] == "note_2.md"
        # What was converted goes with a new version that is not, by whichever way that comes
        await save(api.database, "local", UUID(thread), [await staged(api, thread, "uploads/note.docx")], 0)
        assert "note_2.md" not in await names()
        for name in ("note.docx", "note.md", "note_1.md", "note_1_1.md"):
            await http.delete(f"{url}/{name}")
        # A node that writes into a copy makes it its own
        new = await staged(api, thread, "uploads/report_1.md")
        changes = Changes("local", UUID(thread), 0, {new.path: new})
        await api.database.pipeline(*changes.statements("select 1", {}))
        await http.delete(f"{url}/report.docx")
        assert await names() == ["broken.docx", "report.md", "report_1.md"]
        assert (
            await http.get(f"/api/threads/{thread}/artifacts/mnt/user-data/uploads/report.md")
        ).text == "my own"
