"""Documents as Markdown, for models to read. What cannot be converted in time is not: the document itself is kept in any case."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from typing import IO

from slackwater.blobs.blobs import Blobs
from slackwater.blobs.copy import temporary_copy
from slackwater.kit.threads import Threads
from slackwater.workspace.files import to_markdown
from slackwater.workspace.files.names import suffix_of

log = logging.getLogger(__name__)

CONVERTED = frozenset({".pdf", ".pptx", ".xls", ".xlsx", ".docx"})

SECONDS = 30.0
"""How long one document may take."""

_threads = Threads("documents", 2, 2)


def is_document(name: str) -> bool:
    return suffix_of(name).lower() in CONVERTED


async def markdown_of(blobs: Blobs, key: str, name: str, most: int) -> bytes | None:
    """The document as Markdown; None if it cannot be converted, or has more than `most` bytes as such."""
    async with temporary_copy(blobs, key, _threads) as copy:
        return await copy.call(_convert, suffix_of(name).lower(), most)


def _convert(file: IO[bytes], suffix: str, most: int) -> bytes | None:
    file.seek(0)
    with tempfile.TemporaryFile() as made, tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", to_markdown.__name__, suffix]
        try:
            code: int | str = subprocess.run(
                command, stdin=file, stdout=made, stderr=said, timeout=SECONDS
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
