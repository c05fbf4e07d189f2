"""A runtime that can stream, unlike AWS's own: `python -m slackwater_lambda.streaming`, see `bootstrap.sh`.

Responses to requests from a Function URL in mode RESPONSE_STREAM, or a REST API with `responseTransferMode: STREAM`, are
streamed. All other events are handled as in `slackwater_lambda.main`.
"""

# ruff: noqa: E402
from __future__ import annotations

from slackwater_lambda import signals

signals.block()  # before any thread exists, including those of imported libraries

import os
import sys
import traceback
from typing import NoReturn

from slackwater.errors import ExitCode
from slackwater_lambda.runtime_api import RuntimeApi

BEFORE_SNAPSHOT_FAILED, AFTER_RESTORE_FAILED = 64, 65
"""Exit codes of AWS's own client."""


def main() -> NoReturn:
    """Initialise as `slackwater_lambda.main` does, then handle events."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if address is None:
        sys.exit(
            "slackwater_lambda.streaming is a runtime of AWS Lambda: elsewhere run `slackwater lambda --stream`."
        )
    api = RuntimeApi(address)
    try:
        # Imported here, so that import errors are reported. An unreachable database does not fail the initialisation: each
        # invocation tries again.
        from slackwater_lambda.main import adapter, lambda_handler
        from slackwater_lambda.runtime_client import RuntimeClient
    except (Exception, SystemExit) as problem:
        api.init_error(problem)
        exit_with(ExitCode.FAILED, problem)
    prepare_snapshot(api)
    RuntimeClient(api, adapter, lambda_handler).run()


def prepare_snapshot(api: RuntimeApi) -> None:
    """With SnapStart: allow the snapshot, and return in each copy. `slackwater_lambda.snapstart` has registered the hooks."""
    from slackwater_lambda import snapstart

    if not snapstart.enabled():
        return
    from snapshot_restore_py import (  # type: ignore[import-untyped]
        get_after_restore,
        get_before_snapshot,
    )

    try:
        for hook, arguments, options in reversed(get_before_snapshot()):
            hook(*arguments, **options)
        api.restore_next()
    except Exception as problem:
        api.init_error(problem)
        exit_with(BEFORE_SNAPSHOT_FAILED, problem)
    try:
        for hook, arguments, options in get_after_restore():
            hook(*arguments, **options)
    except Exception as problem:
        api.restore_error(problem)
        exit_with(AFTER_RESTORE_FAILED, problem)


def exit_with(code: int, problem: BaseException) -> NoReturn:
    """End the process, which cannot handle events. Not by `sys.exit`, which would wait for the threads of nodes."""
    traceback.print_exception(problem)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
