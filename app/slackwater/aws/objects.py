"""Blobs in S3, or in whatever speaks its protocol: one object each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from slackwater.aws import clients
from slackwater.blobs.blobs import PIECE_BYTES, BlobGone, Blobs, PresignedUpload, StoreSilent, silent
from slackwater.blobs.local import LocalBlobs
from slackwater.blobs.place import Bucket, place_of
from slackwater.kit.threads import Threads
from slackwater.settings import Settings

T = TypeVar("T")

THREADS = 16
"""Those of all reads and writes of the process."""

PART_BYTES = 5 * 1024 * 1024
"""S3 takes no smaller parts, but for the last one. What is smaller as a whole is sent at once."""

DELETED = 1000
"""S3 deletes no more objects at a time."""


def blobs_of(settings: Settings) -> Blobs:
    """The store that the settings name."""
    place = place_of(settings.blobs) if settings.blobs else settings.data_dir / "blobs"
    return S3Blobs(place) if isinstance(place, Bucket) else LocalBlobs(place)


class S3Blobs:
    """Objects whose keys begin with the prefix of the bucket."""

    presigns = True

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._threads = Threads("objects", THREADS, THREADS)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        size, gathered, upload = 0, bytearray(), _Upload(self._where(key))
        try:
            async for chunk in chunks:
                gathered += chunk
                size += len(chunk)
                while len(gathered) >= PART_BYTES:
                    await self._call(upload.send_part, bytes(gathered[:PART_BYTES]))
                    del gathered[:PART_BYTES]
            await self._call(upload.finish, bytes(gathered))
        except BaseException:
            # Not awaited: this may be a cancellation. What a stop prevents here, the sweep does.
            self._threads.submit_last(self, partial(_told, upload.give_up))
            raise
        return size

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        if length == 0:
            return
        end = "" if length is None else str(start + length - 1)
        part = {"Range": f"bytes={start}-{end}"} if start or length is not None else {}
        body = await self._call(lambda: _client().get_object(**self._where(key), **part)["Body"])
        try:
            while piece := await self._call(body.read, PIECE_BYTES):
                yield piece
        finally:
            self._threads.submit_last(self, body.close)

    async def size(self, key: str) -> int | None:
        try:
            found = await self._call(lambda: _client().head_object(**self._where(key)))
        except BlobGone:
            return None
        size: int = found["ContentLength"]
        return size

    async def delete(self, keys: Collection[str], *, abandoned: bool = False) -> None:
        every = list(keys)
        for at in range(0, len(every), DELETED):
            await self._call(self._delete, every[at : at + DELETED])
        if abandoned:
            for key in keys:
                await self._call(self._abort_all, self._where(key))

    async def upload_url(self, key: str, size: int, seconds: float) -> PresignedUpload:
        # Signed, so that S3 takes exactly so many bytes, and only once: a live blob never changes.
        headers = {"If-None-Match": "*"}
        exactly = {**self._where(key), "ContentLength": size, "IfNoneMatch": "*"}
        url = await self._call(lambda: _client().generate_presigned_url("put_object", exactly, int(seconds)))
        return PresignedUpload("PUT", url, headers)

    async def download_url(self, key: str, seconds: float, *, content_type: str, disposition: str) -> str:
        as_ = {"ResponseContentType": content_type, "ResponseContentDisposition": disposition}
        parameters = {**self._where(key), **{name: value for name, value in as_.items() if value}}
        url: str = await self._call(
            lambda: _client().generate_presigned_url("get_object", parameters, int(seconds))
        )
        return url

    def close(self) -> None:
        self._threads.close()

    def _where(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": f"{self._bucket.prefix}{key}"}

    def _delete(self, keys: list[str]) -> None:
        objects = [{"Key": self._where(key)["Key"]} for key in keys]
        deletion = {"Objects": objects, "Quiet": True}
        answer = _client().delete_objects(Bucket=self._bucket.name, Delete=deletion)
        if failed := answer.get("Errors"):
            raise StoreSilent(f"S3 did not delete {len(failed)} objects: {failed[0].get('Message')}")

    def _abort_all(self, where: dict[str, str]) -> None:
        """End every upload in parts to this key, of whatever process."""
        found = _client().list_multipart_uploads(Bucket=where["Bucket"], Prefix=where["Key"])
        for upload in found.get("Uploads", ()):
            _abort(where, upload["UploadId"])

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.wrap_future(self._threads.submit(self, lambda: _told(function, *arguments)))


class _Upload:
    """A blob on its way, at once or in parts. S3 shows the object when it is complete.

    A thread cannot be cancelled: whoever gives up waits, in another thread, until S3 has what is being sent, and then deletes
    it. Otherwise it could arrive after everybody has forgotten it.
    """

    def __init__(self, where: dict[str, str]) -> None:
        self._where = where
        self._lock = Lock()
        """Of all below."""
        self._id: str | None = None
        self._sent: list[dict[str, Any]] = []
        self._may_be_there = self._given_up = False

    def send_part(self, data: bytes) -> None:
        with self._lock:
            self._require()
            if self._id is None:
                self._id = _client().create_multipart_upload(**self._where)["UploadId"]
            self._send(data)

    def finish(self, rest: bytes) -> None:
        with self._lock:
            self._require()
            self._may_be_there = True
            if self._id is None:
                _client().put_object(**self._where, Body=rest)
                return
            if rest:
                self._send(rest)
            parts = {"Parts": self._sent}
            _client().complete_multipart_upload(**self._where, UploadId=self._id, MultipartUpload=parts)

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            if self._id is not None:
                _abort(self._where, self._id)
            if self._may_be_there:
                _client().delete_object(**self._where)

    def _send(self, data: bytes) -> None:
        number = len(self._sent) + 1
        answer = _client().upload_part(**self._where, UploadId=self._id, PartNumber=number, Body=data)
        self._sent.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _require(self) -> None:
        if self._given_up:
            raise StoreSilent("nobody wants it any more")


def _abort(where: dict[str, str], upload_id: str) -> None:
    """End an upload in parts, unless it has ended."""
    from botocore.exceptions import ClientError

    try:
        _client().abort_multipart_upload(**where, UploadId=upload_id)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchUpload":
            raise


def _client() -> Any:
    return clients.client("s3")


def _told(function: Callable[..., T], *arguments: Any) -> T:
    """Raises BlobGone and StoreSilent for what boto3 and its connections raise."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        return function(*arguments)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404", "NotFound"):
            raise BlobGone from None
        raise silent(error) from error
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise silent(error) from error
