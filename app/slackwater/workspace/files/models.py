"""The bodies of requests about files."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field


class PromisedFile(BaseModel):
    """A file that is about to be uploaded by a URL."""

    filename: Annotated[str, Field(min_length=1, max_length=1024)]
    size: Annotated[int, Field(ge=0)]
    """In bytes."""


class Presign(BaseModel):
    """Files that are to be uploaded by URLs."""

    files: Annotated[list[PromisedFile], Field(min_length=1, max_length=1000)]


class UploadedFile(BaseModel):
    """A file that was uploaded by its URL."""

    upload_id: Annotated[str, Field(min_length=1, max_length=200)]
    filename: Annotated[str, Field(min_length=1, max_length=1024)]


class Complete(BaseModel):
    """Files that were uploaded by URLs, and become files of the thread."""

    files: Annotated[list[UploadedFile], Field(min_length=1, max_length=1000)]
