"""`slackwater serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from slackwater.cli.options import DatabaseUri, ProjectPath


def serve(
    project: ProjectPath = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; anything but loopback needs an API key.  [SLACKWATER_HOST; default: 127.0.0.1]"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0 picks a free one.  [SLACKWATER_PORT; default: 2024]"),
    ] = None,
    database_uri: DatabaseUri = None,
) -> None:
    """Serve a project over the LangGraph SDK's HTTP API.

    Prints one line to stdout when it is ready ("slackwater.ready url=…") and logs
    to stderr. On SIGTERM or Ctrl-C, every run stops at its next superstep boundary
    and is handed over, within SLACKWATER_GRACE_SECONDS.

    Files are not reloaded when they change: restart the server, and runs resume.
    """
    from slackwater.runtime.process.signals import leave_at_once
    from slackwater.settings import Settings

    leave_at_once()
    settings = Settings.load(project=project, host=host, port=port, database_uri=database_uri)
    settings.check_bind(settings.host)

    from slackwater.web.server import main  # imports LangGraph: wrong settings are reported before

    main(settings)
