"""Turns a document into Markdown, in a process of its own: `python -m slackwater.workspace.files.to_markdown .docx < a.docx`.

What documents contain is anybody's: so it has little memory and time, and no network is asked for.
"""

from __future__ import annotations

import io
import resource
import sys

MEMORY_BYTES = 2 * 1024**3
CPU_SECONDS = 30


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from markitdown import MarkItDown, converters

    # The one that it says it is, and no other: they would guess.
    converter = getattr(converters, f"{sys.argv[1].removeprefix('.').capitalize()}Converter")
    markitdown = MarkItDown(enable_builtins=False, enable_plugins=False)
    markitdown.register_converter(converter())
    document = io.BytesIO(sys.stdin.buffer.read())
    found = markitdown.convert_stream(document, file_extension=sys.argv[1])
    sys.stdout.buffer.write(found.text_content.encode("utf-8", "replace"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
