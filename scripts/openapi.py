"""Writes docs/openapi.json, which describes the API: python -m scripts.openapi

`/openapi.json` of a server is the same, but for the version.
"""

from __future__ import annotations

import json
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"


def text() -> str:
    """The document as committed: without a version, since each release would change it."""
    from slackwater.main import create_app

    document = create_app().openapi()
    document = {**document, "info": {**document["info"], "version": "main"}}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text())
