"""Writes the table of permissions in docs/auth.md anew: python -m scripts.permissions"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "auth.md"
HEADING = "| permission | scope | requests |\n|---|---|---|\n"


def table() -> str:
    """What each permission allows, as the route table has it."""
    from slackwater.identity.permissions import NEEDED, Permission
    from slackwater.main import create_app
    from slackwater.web.application import methods_and_path
    from slackwater.web.route_table import Feature, permission_of

    requests = defaultdict[Permission, list[str]](list)
    app = create_app()
    app.serve(Feature)
    for route in app.router.routes:
        methods, path = methods_and_path(route)
        for method in sorted(methods):
            needed = permission_of(method, path)
            if needed is not None and (getattr(route, "include_in_schema", True) or method == "WEBSOCKET"):
                requests[needed].append(f"`{'WebSocket' if method == 'WEBSOCKET' else method} {path}`")
    requests[Permission.APP_READ] = ["GET on routes of the project's own application"]
    requests[Permission.APP_WRITE] = ["anything else there, WebSockets too"]
    return HEADING + "".join(
        f"| `{each}` | `{NEEDED[each]}` | {', '.join(sorted(requests[each], key=_by_path))} |\n"
        for each in Permission
        if requests[each]
    )


def _by_path(request: str) -> list[str]:
    return request.strip("`").split()[::-1]


def text() -> str:
    """The document, with the table as it has to be."""
    old = re.compile(re.escape(HEADING) + r"(\|.*\n)*")
    return old.sub(lambda _: table(), DOCUMENT.read_text(), count=1)


if __name__ == "__main__":
    DOCUMENT.write_text(text())
