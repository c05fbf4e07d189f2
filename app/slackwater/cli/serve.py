"""`slackwater serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slackwater.cli.options import DatabaseUri


def serve(
    project: Annotated[
        Path | None,
        typer.Option(help="Folder with langgraph.json, or that file.  [SLACKWATER_PROJECT; default: .]"),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; beyond loopback only with API keys.  [SLACKWATER_HOST; default: 127.0.0.1]"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0: any free one.  [SLACKWATER_PORT; default: 2024]"),
    ] = None,
    database_uri: DatabaseUri = None,
) -> None:
    """Serve a project over the LangGraph SDK's HTTP API.

    One line on stdout says when and where it serves ("slackwater.ready url=…");
    the log is on stderr. SIGTERM or Ctrl-C drains: every run stops at its next
    superstep boundary and is handed over, within SLACKWATER_GRACE_SECONDS.

    Nothing is reloaded when a file changes: restart it, and its runs go on.
    """
    from slackwater.runtime.process.signals import leave_at_once
    from slackwater.settings import Settings

    leave_at_once()
    settings = Settings.load(project=project, host=host, port=port, database_uri=database_uri)
    settings.check_bind(settings.host)

    from slackwater.web.server import main  # imports LangGraph: a wrong setting is told before

    main(settings)
