#!/bin/sh
# AWS_LAMBDA_EXEC_WRAPPER: Lambda runs this in place of the managed runtime, whose command it gives as arguments.
# They are left alone: handler/streaming.py speaks to the Runtime API itself, since the managed one cannot stream.
set -eu
cd "${LAMBDA_TASK_ROOT:-/var/task}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec python3 -m handler.streaming
