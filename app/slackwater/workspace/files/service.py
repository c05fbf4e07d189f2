"""The rules of files. They belong to an owner and a thread, which need not be there yet; what another owns is not there."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from slackwater.blobs import files
from slackwater.blobs import queries as blobs_queries
from slackwater.blobs.blobs import STAGED_SECONDS, BlobGone, Blobs, is_key_of, new_key
from slackwater.blobs.queries import NewFile
from slackwater.errors import BadRequest, Conflict, NotFound
from slackwater.identity.custom import access
from slackwater.identity.principal import Principal
from slackwater.kit.json_format import RESPONSE_BYTES, escaped_size
from slackwater.postgres.pool import Row
from slackwater.web.bodies import LARGE_BYTES
from slackwater.web.delivery import Delivery
from slackwater.web.http import LargeResponse
from slackwater.workspace.files import content, conversion, queries
from slackwater.workspace.files.archive import MemberTooLarge, member_of
from slackwater.workspace.files.models import Complete, Presign
from slackwater.workspace.files.names import (
    UPLOADS,
    InvalidName,
    artifact_url,
    directly_in_uploads,
    markdown_name,
    name_of,
    path_of,
    require_name,
    suffix_of,
    unique,
    virtual_path,
)
from slackwater.workspace.files.ranges import is_known, range_of
from slackwater.workspace.files.response import FileResponse
from slackwater.workspace.files.uploads import (
    FileTooLarge,
    Received,
    Reception,
    TooManyUploads,
    UploadTooLarge,
)
from slackwater.workspace.threads import owner_for

if TYPE_CHECKING:
    from slackwater.services import Services

URL_SECONDS = 900.0
"""How long the URLs that are given out are valid."""

BUFFERED_BYTES = RESPONSE_BYTES * 3 // 5
"""The largest part of a file that AWS Lambda answers with: in base64 it takes a third more."""

LONGEST_ESCAPE = 6
"""Bytes that a byte of text takes there, at most: inside JSON, `\\u0001` and `\\u00e4` are as long as they are here."""

ARCHIVE = ".skill/"


class NoPresignedUploads(BadRequest):
    """This server keeps files in a folder, to which there are no URLs: send the files themselves to …/uploads."""


class UploadGone(NotFound):
    """There is no such upload any more: ask for a new URL."""


class NotUploaded(Conflict):
    """The file has not been uploaded yet, or not with the size that was said: PUT it to its URL first."""


class NotAFile(BadRequest):
    """Path is not a file"""


async def upload(
    services: Services, principal: Principal, thread_id: UUID, request: Request
) -> dict[str, Any]:
    """Receive the files of a form: all of them, or none."""
    owner = await owner_for(services, principal, "update", thread_id)
    blobs, bounds = _blobs(services), services.graphs.gateway.uploads
    reception = Reception(services.database, blobs, bounds, owner, thread_id)
    try:
        await reception.receive(request)
        made = await _markdown(services, reception, owner, thread_id) if bounds.auto_convert_documents else {}
        new = [*(one.new for one in reception.received), *made.values()]
        saved = await _save(services, owner, thread_id, new)
    except Exception:
        await reception.discard()
        raise
    shown = [_received(thread_id, one, saved, made.get(one.name)) for one in reception.received]
    left_out = f"; skipped {len(reception.skipped)} unsafe file(s)" if reception.skipped else ""
    return {
        "success": True,
        "files": shown,
        "message": f"Successfully uploaded {len(shown)} file(s){left_out}",
        "skipped_files": reception.skipped,
    }


def limits(services: Services) -> dict[str, int]:
    """How much one request may upload."""
    bounds = services.graphs.gateway.uploads
    return {
        "max_files": bounds.max_files,
        "max_file_size": bounds.max_file_size,
        "max_total_size": bounds.max_total_size,
    }


async def require_reader(services: Services, principal: Principal, thread_id: UUID) -> None:
    """Raises NotFound for another's thread."""
    await owner_for(services, principal, "read", thread_id)


async def list_(services: Services, principal: Principal, thread_id: UUID) -> dict[str, Any]:
    """What was uploaded, by name."""
    owner = await owner_for(services, principal, "read", thread_id)
    rows = await blobs_queries.list_(services.database, owner, thread_id, UPLOADS)
    direct = set(directly_in_uploads(row["path"] for row in rows))
    shown = [
        info(thread_id, row["path"], row["size"], row["modified_at"].timestamp())
        for row in rows
        if row["path"] in direct
    ]
    return {"files": shown, "count": len(shown)}


async def delete(services: Services, principal: Principal, thread_id: UUID, filename: str) -> dict[str, Any]:
    """Delete an upload, and what it was converted to. Raises NotFound and InvalidName."""
    name = require_name(filename)
    owner = (await access.to_thread(services, principal, "delete", thread_id)).owner
    if not await blobs_queries.delete(services.database, owner, thread_id, [f"{UPLOADS}{name}"]):
        raise NotFound(f"File not found: {name}")
    return {"success": True, "message": f"Deleted {name}"}


async def presign(services: Services, principal: Principal, thread_id: UUID, body: Presign) -> dict[str, Any]:
    """URLs by which a client uploads files to the store itself. Raises NoPresignedUploads."""
    owner = await owner_for(services, principal, "update", thread_id)
    blobs, bounds = _blobs(services), services.graphs.gateway.uploads
    if len(body.files) > bounds.max_files:
        raise TooManyUploads(bounds.max_files)
    for file in body.files:
        if name_of(file.filename) is None:
            raise InvalidName
        if file.size > bounds.max_file_size:
            raise FileTooLarge(file.filename)
    if sum(file.size for file in body.files) > bounds.max_total_size:
        raise UploadTooLarge
    if not blobs.presigns:
        raise NoPresignedUploads
    keys = [new_key(owner, thread_id) for _ in body.files]
    sizes = [file.size for file in body.files]
    await blobs_queries.stage(services.database, keys, sizes, STAGED_SECONDS)
    expires_at = time.time() + URL_SECONDS
    uploads = [await blobs.upload_url(key, size, URL_SECONDS) for key, size in zip(keys, sizes, strict=True)]
    return {
        "uploads": [
            {
                "upload_id": key,
                "filename": name_of(file.filename),
                "method": upload.method,
                "url": upload.url,
                "headers": upload.headers,
                "expires_at": expires_at,
            }
            for key, file, upload in zip(keys, body.files, uploads, strict=True)
        ]
    }


async def complete(
    services: Services, principal: Principal, thread_id: UUID, body: Complete
) -> dict[str, Any]:
    """Make files of what was uploaded by URLs: of all of it, or of nothing. Asking again answers the same."""
    owner = (await access.to_thread(services, principal, "update", thread_id)).owner
    blobs, bounds = _blobs(services), services.graphs.gateway.uploads
    if len(body.files) > bounds.max_files:
        raise TooManyUploads(bounds.max_files)
    keys = [file.upload_id for file in body.files]
    if len(set(keys)) < len(keys) or not all(is_key_of(key, owner, thread_id) for key in keys):
        raise UploadGone
    there = {
        row["blob"]: row for row in await blobs_queries.of_blobs(services.database, owner, thread_id, keys)
    }
    if there.keys() == set(keys):
        return _completed(
            thread_id, [(there[key]["path"], there[key]["size"], _time(there[key])) for key in keys]
        )
    promised = await blobs_queries.staged(services.database, keys)
    if promised.keys() != set(keys):
        raise UploadGone
    sizes = await asyncio.gather(*(blobs.size(key) for key in keys))
    new, taken = list[NewFile](), set[str]()
    for file, size in zip(body.files, sizes, strict=True):
        if size is None or size != promised[file.upload_id]:
            raise NotUploaded
        if (name := name_of(file.filename)) is None:
            raise InvalidName
        name = unique(name, taken)
        taken.add(name)
        new.append(NewFile(f"{UPLOADS}{name}", file.upload_id, size, None))
    saved = await _save(services, owner, thread_id, new)
    return _completed(thread_id, [(file.path, file.size, saved[file.path]) for file in new])


async def artifact(
    services: Services,
    principal: Principal,
    thread_id: UUID,
    virtual: str,
    request: Request,
    *,
    download: bool,
) -> Response:
    """A file, or a member of an archive. Raises NotFound, NotAFile, RangeNotSatisfiable, and what names and archives raise."""
    path = path_of(virtual)
    # Whether another has such a thread is not asked: each owner has files of their own in it.
    owner = (await access.to_thread(services, principal, "read", thread_id)).owner
    if ARCHIVE in path:
        return await _member(services, owner, thread_id, path, virtual, request, download=download)
    row = await _find(services, owner, thread_id, path, virtual)
    try:
        return await _answer(services, row, path, request, download=download)
    except BlobGone:
        # Replaced a moment ago, and swept: what has replaced it is there.
        row = await _find(services, owner, thread_id, path, virtual)
    try:
        return await _answer(services, row, path, request, download=download)
    except BlobGone:
        raise NotFound(f"Artifact not found: {virtual}") from None


def info(thread_id: UUID, path: str, size: int, modified: float) -> dict[str, Any]:
    """A file as pages see it."""
    name = path.rpartition("/")[2]
    return {
        "filename": name,
        "size": size,
        "path": virtual_path(path),  # where it is in fact is no business of anybody's
        "virtual_path": virtual_path(path),
        "artifact_url": artifact_url(thread_id, path),
        "extension": suffix_of(name),
        "modified": modified,
        "original_filename": None,
        "markdown_file": None,
        "markdown_path": None,
        "markdown_virtual_path": None,
        "markdown_artifact_url": None,
    }


def _received(
    thread_id: UUID, one: Received, saved: Mapping[str, float], markdown: NewFile | None
) -> dict[str, Any]:
    shown = info(thread_id, one.new.path, one.new.size, saved[one.new.path])
    if one.original != one.name:
        shown["original_filename"] = one.original
    if markdown is not None:
        shown |= {
            "markdown_file": markdown.path.removeprefix(UPLOADS),
            "markdown_path": virtual_path(markdown.path),
            "markdown_virtual_path": virtual_path(markdown.path),
            "markdown_artifact_url": artifact_url(thread_id, markdown.path),
        }
    return shown


def _completed(thread_id: UUID, saved: Sequence[tuple[str, int, float]]) -> dict[str, Any]:
    return {
        "success": True,
        "files": [info(thread_id, *one) for one in saved],
        "message": f"Successfully uploaded {len(saved)} file(s)",
        "skipped_files": [],
    }


async def _save(
    services: Services, owner: str, thread_id: UUID, new: Sequence[NewFile]
) -> Mapping[str, float]:
    if not new:
        return {}
    most = services.settings.max_file_bytes_per_owner
    return await files.save(services.database, owner, thread_id, new, most)


async def _markdown(
    services: Services, reception: Reception, owner: str, thread_id: UUID
) -> dict[str, NewFile]:
    """What the documents of the request are as Markdown, staged, by the name of each."""
    documents = [one for one in reception.received if conversion.is_document(one.name)]
    if not documents:
        return {}
    there = await blobs_queries.list_(services.database, owner, thread_id, UPLOADS)
    made: dict[str, NewFile] = {}
    most, deadline = services.graphs.gateway.uploads.max_file_size, time.monotonic() + conversion.SECONDS
    for one in documents:
        text = await conversion.markdown_of(_blobs(services), one.new.blob, one.name, most, deadline)
        if text is None:
            continue
        # Never the name of what somebody has uploaded themselves.
        others = {row["path"].removeprefix(UPLOADS) for row in there if row["made_from"] != one.new.path}
        name = reception.take(markdown_name(one.name), others)
        new = await reception.add(f"{UPLOADS}{name}", text)
        made[one.name] = replace(new, made_from=one.new.path)
    return made


async def _find(services: Services, owner: str, thread_id: UUID, path: str, virtual: str) -> Row:
    row = await blobs_queries.find(services.database, owner, thread_id, path)
    if row is not None:
        return row
    if path in ("", "uploads", "outputs", "workspace") or await queries.has_below(
        services.database, owner, thread_id, path
    ):
        raise NotAFile(f"Path is not a file: {virtual}")
    raise NotFound(f"Artifact not found: {virtual}")


async def _answer(
    services: Services, row: Row, path: str, request: Request, *, download: bool
) -> FileResponse:
    blobs, size, key = _blobs(services), row["size"], row["blob"]
    etag = _etag(key)
    cached = {"ETag": etag, "Cache-Control": "private, no-cache", "Accept-Ranges": "bytes"}
    if is_known(request.headers, etag):
        return FileResponse(304, cached, 0)
    part = range_of(request.headers, etag, size)
    kind = content.type_of(path)
    start, length = (part.start, part.length) if part is not None else (0, size)
    elsewhere = blobs.presigns and _is_buffered(request)
    if elsewhere and length > BUFFERED_BYTES:
        text = await _is_text(blobs, key, kind)
        return await _elsewhere(blobs, key, content.headers_of(path, kind=kind, text=text, download=download))
    pieces = blobs.read(key, start, length)
    first = await anext(pieces, b"")
    rest: AsyncGenerator[bytes] | None = pieces
    text = content.may_be_text(kind) and (
        content.looks_like_text(first[: content.HEAD_BYTES])
        if not start
        else await _is_text(blobs, key, kind)
    )
    shown = content.headers_of(path, kind=kind, text=text, download=download)
    if elsewhere and text and length * LONGEST_ESCAPE > RESPONSE_BYTES:
        first, rest = b"".join([first, *[piece async for piece in pieces]]), None
        if _is_too_large(first, text=True):
            return await _elsewhere(blobs, key, shown)
    told = {**shown, **cached}
    if part is None:
        return FileResponse(200, told, length, first, rest)
    told["Content-Range"] = f"bytes {part.start}-{part.end}/{size}"
    return FileResponse(206, told, length, first, rest)


def _is_too_large(body: bytes, *, text: bool) -> bool:
    """Whether Lambda does not take it as a buffered response, which Base64 makes longer unless it is text."""
    return (escaped_size(body) if text else len(body) * 5 // 3) > RESPONSE_BYTES


async def _elsewhere(blobs: Blobs, key: str, shown: Mapping[str, str]) -> FileResponse:
    """Where S3 shows it in the same way."""
    kind, disposition = shown["Content-Type"], shown.get("Content-Disposition", "")
    url = await blobs.download_url(key, URL_SECONDS, content_type=kind, disposition=disposition)
    return FileResponse(307, {"Location": url, "Cache-Control": "no-store"}, 0)


async def _member(
    services: Services,
    owner: str,
    thread_id: UUID,
    path: str,
    virtual: str,
    request: Request,
    *,
    download: bool,
) -> Response:
    archive, _, name = path.partition(ARCHIVE)
    row = await _find(services, owner, thread_id, f"{archive}{ARCHIVE.rstrip('/')}", virtual)
    etag = _etag(row["blob"])
    cached = {"ETag": etag, "Cache-Control": "private, max-age=300"}
    if is_known(request.headers, etag):
        return FileResponse(304, cached, 0)
    try:
        found = await member_of(_blobs(services), row["blob"], row["size"], name)
    except BlobGone:
        raise NotFound(f"Artifact not found: {virtual}") from None
    kind = content.type_of(name)
    text = content.may_be_text(kind) and content.looks_like_text(found[: content.HEAD_BYTES])
    told = content.headers_of(name, kind=kind, text=text, download=download)
    if _is_buffered(request) and _is_too_large(found, text=text):
        raise MemberTooLarge
    as_ = LargeResponse if len(found) > LARGE_BYTES else Response
    return as_(found, 200, {**told, **cached})


async def _is_text(blobs: Blobs, key: str, kind: str) -> bool:
    if not content.may_be_text(kind):
        return False
    return content.looks_like_text(
        b"".join([piece async for piece in blobs.read(key, 0, content.HEAD_BYTES)])
    )


def _is_buffered(request: Request) -> bool:
    """Whether AWS Lambda sends the answer as a whole."""
    delivery = Delivery.of(request.scope)
    return delivery is not None and not delivery.live


def _etag(key: str) -> str:
    """Blobs never change. The key itself is nobody's business."""
    return f'"{hashlib.sha256(key.encode()).hexdigest()[:32]}"'


def _time(row: Row) -> float:
    modified: float = row["modified_at"].timestamp()
    return modified


def _blobs(services: Services) -> Blobs:
    assert services.blobs is not None, "these routes are there with the gateway only"
    return services.blobs
