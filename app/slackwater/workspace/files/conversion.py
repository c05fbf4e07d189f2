"""Documents as Markdown, for models to read. What cannot be converted in time is not: the document itself is kept in any case."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from typing import IO

from slackwater.blobs.blobs import Blobs
from slackwater.blobs.copy import temporary_copy
from slackwater.kit.threads import Threads
from slackwater.workspace.files import to_markdown
from slackwater.workspace.files.names import suffix_of

log = logging.getLogger(__name__)

CONVERTED = frozenset({".pdf", ".pptx", ".xls", ".xlsx", ".docx"})

SECONDS = 30.0
"""How long the documents of one request may take."""

_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR")
"""The variables that Python needs. No secret: documents are anybody's, and so is what they may make of their converter."""

_threads = Threads("documents", 2, 2)


def is_document(name: str) -> bool:
    return suffix_of(name).lower() in CONVERTED


async def markdown_of(blobs: Blobs, key: str, name: str, most: int, deadline: float) -> bytes | None:
    """The document as Markdown; None if it cannot be converted by the deadline, or has more than `most` bytes as such."""
    if time.monotonic() >= deadline:
        return None
    async with temporary_copy(blobs, key, _threads) as copy:
        return await copy.call(_convert, suffix_of(name).lower(), most, deadline)


def _convert(file: IO[bytes], suffix: str, most: int, deadline: float) -> bytes | None:
    file.seek(0)
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with tempfile.TemporaryFile() as made, tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", to_markdown.__name__, suffix]
        try:
            left = max(0.0, deadline - time.monotonic())
            code: int | str = subprocess.run(
                command, stdin=file, stdout=made, stderr=said, timeout=left, env=environment
            ).returncode
        except (subprocess.TimeoutExpired, OSError) as error:
            code = type(error).__name__
        size = made.seek(0, 2)
        if code == 0 and size <= most:
            made.seek(0)
            return made.read()
        said.seek(max(0, said.seek(0, 2) - 500))
        log.warning(
            "a document was not converted",
            extra={
                "event": "document.unconverted",
                "code": code,
                "error": said.read().decode("utf-8", "replace"),
            },
        )
    return None
