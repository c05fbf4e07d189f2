"""A runtime client in place of AWS's own, which cannot stream: `python -m slackwater_lambda.streaming`, see `bootstrap.sh`.

Requests that come through a Function URL in the mode RESPONSE_STREAM, or a REST API with `responseTransferMode: STREAM`, are
answered as the answer is made. All other events go the way that they go in `slackwater_lambda.main`.
"""

# ruff: noqa: E402
from __future__ import annotations

from slackwater_lambda import signals

signals.block()  # before any thread exists, those of imported libraries included

import os
import sys
import traceback
from typing import NoReturn

from slackwater.errors import ExitCode
from slackwater_lambda.runtime_api import RuntimeApi

BEFORE_SNAPSHOT_FAILED, AFTER_RESTORE_FAILED = 64, 65
"""Exit codes of AWS's own client."""


def main() -> NoReturn:
    """Initialise as `slackwater_lambda.main` does, then take events."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if address is None:
        sys.exit(
            "slackwater_lambda.streaming is a runtime of AWS Lambda: elsewhere run `slackwater lambda --stream`."
        )
    api = RuntimeApi(address)
    try:
        # Imported here, so that what does not import is reported. A database that is away is no failure of the
        # initialisation: each invocation tries again.
        from slackwater_lambda.client import Client
        from slackwater_lambda.main import lambda_handler, translator
    except (Exception, SystemExit) as problem:
        api.init_failed(problem)
        leave(ExitCode.FAILED, problem)
    prepare_snapshot(api)
    Client(api, translator, lambda_handler).run()


def prepare_snapshot(api: RuntimeApi) -> None:
    """With SnapStart: let a snapshot be taken, and come back in each copy. The hooks are those of `slackwater_lambda.snapshot`."""
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    from snapshot_restore_py import (  # type: ignore[import-untyped]
        get_after_restore,
        get_before_snapshot,
    )

    try:
        for hook, arguments, options in reversed(get_before_snapshot()):
            hook(*arguments, **options)
        api.snapshot()
    except Exception as problem:
        api.init_failed(problem)
        leave(BEFORE_SNAPSHOT_FAILED, problem)
    try:
        for hook, arguments, options in get_after_restore():
            hook(*arguments, **options)
    except Exception as problem:
        api.restore_failed(problem)
        leave(AFTER_RESTORE_FAILED, problem)


def leave(code: int, problem: BaseException) -> NoReturn:
    """End the process, which cannot take events. Not by `sys.exit`: nodes' threads would be waited for."""
    traceback.print_exception(problem)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
