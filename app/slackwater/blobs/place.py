"""Where blobs are kept, as SLACKWATER_BLOBS says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9!_.*'()/-]*))?")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of S3, and what all keys in it begin with."""

    name: str
    prefix: str


def place_of(text: str) -> Path | Bucket:
    """The folder of `file:PATH`, or the bucket of `s3://bucket/prefix`. Raises ValueError."""
    scheme, _, rest = text.partition(":")
    if scheme == "file" and rest:
        # `file:///srv/blobs`, as URLs have it
        return Path(rest.removeprefix("//") if rest.startswith("///") else rest)
    if found := _S3.fullmatch(text):
        prefix = (found[2] or "").strip("/")
        return Bucket(found[1], f"{prefix}/" if prefix else "")
    raise ValueError("must be file:PATH or s3://bucket/prefix")
