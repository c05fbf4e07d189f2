#!/bin/sh
# For AWS_LAMBDA_EXEC_WRAPPER: Lambda runs this with the command of the managed runtime's own client as arguments. That
# client cannot stream, so handler/slackwater_lambda/streaming.py takes its place, on the interpreter that the command begins with.
set -eu

python=${1:-python3}

cd "${LAMBDA_TASK_ROOT:-/var/task}"
# Where that client would have looked for modules, too.
path=$PWD
for folder in /opt/python/lib/python*/site-packages /opt/python; do
    if [ -d "$folder" ]; then
        path=$path:$folder
    fi
done
export PYTHONPATH="$path${PYTHONPATH:+:$PYTHONPATH}"

exec "$python" -m slackwater_lambda.streaming
