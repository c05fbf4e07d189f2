"""What the routes of files answer."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.blobs.blobs import StoreSilent
from slackwater.blobs.files import StagedTooLong, TooManyFileBytes
from slackwater.errors import ConfigurationUnusable, NotFound
from slackwater.web.openapi.pieces import Json, Operation, Response, Shape, header
from slackwater.workspace.files.archive import MemberTooLarge
from slackwater.workspace.files.form import BrokenForm, NotAForm, UploadBroken, UploadTooSlow
from slackwater.workspace.files.names import InvalidName, NotBelowUserData, PathTraversal
from slackwater.workspace.files.ranges import RangeNotSatisfiable
from slackwater.workspace.files.service import NoPresignedUploads, NotAFile, NotUploaded, UploadGone
from slackwater.workspace.files.uploads import FileTooLarge, NoFiles, TooManyUploads, UploadTooLarge

TAG = "What users upload to a thread, and what runs leave there for them."


class FileShown(Shape):
    """A file of a thread."""

    filename: str
    size: int
    """In bytes."""
    path: str
    virtual_path: str
    """What it is called for models and tools."""
    artifact_url: str
    """Where it is read."""
    extension: str
    modified: float
    """In seconds since the epoch."""
    original_filename: str | None
    """What it was called when it was sent, if that was taken."""
    markdown_file: str | None
    markdown_path: str | None
    markdown_virtual_path: str | None
    markdown_artifact_url: str | None


class FilesUploaded(Shape):
    """What was kept."""

    success: bool
    files: list[FileShown]
    message: str
    skipped_files: list[str]


class FilesListed(Shape):
    """All uploads, by name."""

    files: list[FileShown]
    count: int


class UploadLimits(Shape):
    """What one request may upload."""

    max_files: int
    max_file_size: int
    """In bytes."""
    max_total_size: int
    """In bytes."""


class FileDeleted(Shape):
    """It is gone."""

    success: bool
    message: str


class UploadUrl(Shape):
    """Where a file is to be sent, once, with exactly the size that was said."""

    upload_id: str
    filename: str
    method: str
    url: str
    headers: dict[str, str]
    """They have to be sent as they are."""
    expires_at: float
    """In seconds since the epoch."""


class UploadUrls(Shape):
    """One for each file, in their order."""

    uploads: list[UploadUrl]


_PATH = "/mnt/user-data/uploads/report.pdf"
_THREAD = "0198c0de-0000-7000-8000-000000000001"
_KEY = "9f86d081884c7d659a2feaa0c55ad015/a3bf4f1b2b0b822cd15d6c15b0f00a08"
_FILE = {
    "filename": "report.pdf",
    "size": 48213,
    "path": _PATH,
    "virtual_path": _PATH,
    "artifact_url": f"/api/threads/{_THREAD}/artifacts{_PATH}",
    "extension": ".pdf",
    "modified": 1765000000.25,
    "original_filename": None,
    "markdown_file": None,
    "markdown_path": None,
    "markdown_virtual_path": None,
    "markdown_artifact_url": None,
}
_UPLOADED = Response(
    "The files, which are all there now.",
    FilesUploaded,
    {
        "success": True,
        "files": [_FILE],
        "message": "Successfully uploaded 1 file(s)",
        "skipped_files": [],
    },
)


def _form(operation: Json) -> None:
    operation["requestBody"] = {
        "required": True,
        "content": {
            "multipart/form-data": {
                "example": {"files": ["Hello"]},
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                },
            }
        },
    }


def _any_type(operation: Json) -> None:
    """A file is of any type."""
    for status in ("200", "206"):
        operation["responses"][status]["content"] = {
            "*/*": {"schema": {"type": "string", "format": "binary"}, "example": "Hello"}
        }


_NAMED = {"filename": {"description": "The name of an upload.", "example": "report.pdf"}}
_OF_FILE = {
    "ETag": header("Of this version of the file.", example='"0123456789abcdef0123456789abcdef"'),
    "Accept-Ranges": header("Parts may be asked for.", required=False, example="bytes"),
}

OPERATIONS: Mapping[str, Operation] = {
    "POST /api/threads/{thread_id}/uploads": Operation(
        id="upload_files",
        responses={200: _UPLOADED},
        errors=(
            NotFound,
            NoFiles,
            NotAForm,
            BrokenForm,
            UploadBroken,
            UploadTooSlow,
            TooManyUploads(),
            FileTooLarge(),
            UploadTooLarge,
            TooManyFileBytes,
            StagedTooLong,
            ConfigurationUnusable,
            StoreSilent,
        ),
        edit=_form,
    ),
    "GET /api/threads/{thread_id}/uploads/limits": Operation(
        id="get_upload_limits",
        responses={
            200: Response(
                "The limits.",
                UploadLimits,
                {"max_files": 10, "max_file_size": 52428800, "max_total_size": 104857600},
            )
        },
        errors=(NotFound, ConfigurationUnusable),
    ),
    "GET /api/threads/{thread_id}/uploads/list": Operation(
        id="list_uploads",
        responses={200: Response("The uploads.", FilesListed, {"files": [_FILE], "count": 1})},
        errors=(NotFound,),
    ),
    "DELETE /api/threads/{thread_id}/uploads/{filename}": Operation(
        id="delete_upload",
        responses={200: Response("Done.", FileDeleted, {"success": True, "message": "Deleted report.pdf"})},
        parameters=_NAMED,
        errors=(NotFound, InvalidName),
    ),
    "POST /api/threads/{thread_id}/uploads/presign": Operation(
        id="presign_uploads",
        responses={
            200: Response(
                "The URLs.",
                UploadUrls,
                {
                    "uploads": [
                        {
                            "upload_id": _KEY,
                            "filename": "report.pdf",
                            "method": "PUT",
                            "url": "https://bucket.s3.amazonaws.com/…",
                            "headers": {"If-None-Match": "*"},
                            "expires_at": 1765000900.0,
                        }
                    ]
                },
            )
        },
        bodies={"one file": {"files": [{"filename": "report.pdf", "size": 48213}]}},
        errors=(
            NotFound,
            NoPresignedUploads,
            InvalidName,
            TooManyUploads(),
            FileTooLarge(),
            UploadTooLarge,
            ConfigurationUnusable,
            StoreSilent,
        ),
    ),
    "POST /api/threads/{thread_id}/uploads/complete": Operation(
        id="complete_uploads",
        responses={200: _UPLOADED},
        bodies={"one file": {"files": [{"upload_id": _KEY, "filename": "report.pdf"}]}},
        errors=(
            NotFound,
            UploadGone,
            NotUploaded,
            InvalidName,
            TooManyUploads(),
            TooManyFileBytes,
            StagedTooLong,
            ConfigurationUnusable,
            StoreSilent,
        ),
    ),
    "GET /api/threads/{thread_id}/artifacts/{path}": Operation(
        id="get_artifact",
        responses={
            200: Response("The file.", str, "Hello", headers=_OF_FILE),
            206: Response(
                "The part of it that was asked for.",
                str,
                "ell",
                headers={
                    **_OF_FILE,
                    "Content-Range": header("Which part this is.", example="bytes 1-3/5"),
                },
            ),
            304: Response("The client has this version."),
            307: Response(
                "On AWS Lambda, where a large file is.",
                headers={"Location": header("A URL that is valid for some minutes.")},
            ),
        },
        parameters={
            "path": {
                "description": "The virtual path of a file, or of a member of a `.skill` archive.",
                "example": "mnt/user-data/outputs/report.html",
            },
            "download": {"description": "To be saved, and not to be shown."},
        },
        errors=(
            NotFound,
            NotAFile,
            NotBelowUserData,
            PathTraversal,
            MemberTooLarge,
            RangeNotSatisfiable(),
            StoreSilent,
        ),
        edit=_any_type,
    ),
}
