"""`slackwater lambda`."""

from __future__ import annotations

from typing import Annotated

import typer

from slackwater.cli.options import DatabaseUri, ProjectPath

Timeout = Annotated[
    int, typer.Option(min=1, max=900, help="Seconds that one invocation may take, like Lambda's Timeout.")
]
Memory = Annotated[
    int,
    typer.Option(
        min=128,
        max=10240,
        help="Memory in MB that is reported to the function; the emulator does not enforce it.",
    ),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME[=VALUE]",
        help="Environment variable for the function, which otherwise sees only SLACKWATER_…; may be repeated.",
    ),
]
Handler = Annotated[str, typer.Option(hidden=True)]


def lambda_(
    project: ProjectPath = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = 3000,
    environments: Annotated[
        int,
        typer.Option(
            min=1, max=100, help="Most execution environments at a time; each is started when it is needed."
        ),
    ] = 4,
    timeout: Timeout = 60,
    memory: Memory = 1769,
    schedule_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds between scheduled events, which sweep; 0 for none.")
    ] = 60.0,
    queue_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Hand runs over through this queue, at AWS_ENDPOINT_URL_SQS.",
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Stream responses event by event, as behind a streaming Function URL."),
    ] = False,
    env: Variables = None,
    database_uri: DatabaseUri = None,
    handler: Handler = "slackwater_lambda.main.lambda_handler",
) -> None:
    """Serve a project as on AWS Lambda, on this machine, without Docker.

    Runs AWS's own Runtime Interface Emulator behind a local API Gateway with the
    same time limit, buffering and size limits. A run that takes longer than one
    invocation is handed over to the next.

    Prints one line to stdout when it is ready ("slackwater.ready url=…") and logs
    to stderr, the function's log included. Listens on loopback only.
    """
    from slackwater.emulator import settings as emulator_settings

    settings = emulator_settings.load(project, database_uri)

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
