"""Writes the files of Swagger UI that `/docs` shows, as tests/browser/package-lock.json pins them: python3 scripts/swagger_ui.py

npm has checked them against the hash in that lock (python3 scripts/provide.py). For another version change package.json, run
`npm install --package-lock-only --omit-lockfile-registry-resolved` there, and then this; VERSION in docs.py says which one is served.
"""

from __future__ import annotations

import gzip
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "app" / "slackwater" / "api" / "system" / "swagger_ui"
COMPRESSED = ("swagger-ui-bundle.js", "swagger-ui.css")
COPIED = ("oauth2-redirect.js", "swagger-ui-bundle.js.LICENSE.txt", "LICENSE", "NOTICE")


def contents(package: Path) -> dict[str, bytes]:
    """What is in each file, by its name."""
    files = {name: (package / name).read_bytes() for name in (*COMPRESSED, *COPIED)}
    # Without the time, so that the same files are the same bytes.
    return {
        (f"{name}.gz" if name in COMPRESSED else name): (
            gzip.compress(content, 9, mtime=0) if name in COMPRESSED else content
        )
        for name, content in files.items()
    }


def main() -> None:
    from provide import node_modules  # beside this file, if it is run as a program

    for name, content in contents(node_modules() / "swagger-ui-dist").items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
