# For ECS, Kubernetes, or anywhere: docs/containers.md.
#   docker build --build-arg PROJECT=path/to/project -t slackwater .
# The base needs Python 3.11 or newer, and pip for the first stage.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# pip reads its own variables: --build-arg PIP_INDEX_URL=… for another index.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ARG PROJECT=examples/digest
COPY . /source
RUN python3 /source/scripts/package.py /slackwater --for server --project "/source/${PROJECT}"

FROM ${BASE}
COPY --from=build /slackwater /slackwater
WORKDIR /slackwater
ENV PYTHONPATH=/slackwater \
    PYTHONUNBUFFERED=1 \
    SLACKWATER_PROJECT=/slackwater/project \
    SLACKWATER_HOST=0.0.0.0 \
    SLACKWATER_PORT=8000 \
    SLACKWATER_LOG_FORMAT=json
# By number, so that a cluster can see that it is not root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# No shell in between: the server itself is PID 1, and the signal reaches it. Other commands: `docker run … migrate`.
ENTRYPOINT ["python3", "-m", "slackwater"]
CMD ["serve"]
