"""`slackwater lambda`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slackwater.cli.options import DatabaseUri

Project = Annotated[
    Path | None,
    typer.Option(help="Folder with langgraph.json, or that file.  [SLACKWATER_PROJECT; default: .]"),
]
Timeout = Annotated[
    int, typer.Option(min=1, max=900, help="Seconds that one invocation may take, as Lambda's Timeout.")
]
Memory = Annotated[
    int, typer.Option(min=128, max=10240, help="MB, told to the function; the emulator does not enforce it.")
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME[=VALUE]",
        help="One more variable for the function, again and again; it sees SLACKWATER_… only.",
    ),
]
Handler = Annotated[str, typer.Option(hidden=True)]


def lambda_(
    project: Project = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 3000,
    environments: Annotated[
        int,
        typer.Option(min=1, max=100, help="Execution environments at a time; each is started when needed."),
    ] = 4,
    timeout: Timeout = 60,
    memory: Memory = 1769,
    schedule_seconds: Annotated[
        float, typer.Option(min=0, help="Between two scheduled events, which sweep; 0: none.")
    ] = 60.0,
    queue_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Take messages from this queue, at AWS_ENDPOINT_URL_SQS; runs are handed over through it.",
        ),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Answer event by event, as behind a Function URL that streams.")
    ] = False,
    env: Variables = None,
    database_uri: DatabaseUri = None,
    handler: Handler = "slackwater_lambda.main.lambda_handler",
) -> None:
    """Serve a project as on AWS Lambda, on this machine, without Docker.

    A local twin of API Gateway in front of AWS's own Runtime Interface
    Emulator: its time limit, its buffering, its sizes. A run that takes longer
    than one invocation is handed over to the next.

    One line on stdout says when and where it serves ("slackwater.ready url=…");
    the log, the function's included, is on stderr. Loopback only.
    """
    from slackwater.emulator import settings as twin

    settings = twin.load(project, database_uri)

    from slackwater.emulator.serve import Options, main

    main(
        settings,
        Options(
            port=port,
            environments=environments,
            timeout_seconds=timeout,
            memory_mb=memory,
            schedule_seconds=schedule_seconds,
            queue_url=queue_url,
            variables=tuple(env or ()),
            handler=handler,
            stream=stream,
        ),
    )
