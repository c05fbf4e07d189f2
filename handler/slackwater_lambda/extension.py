"""The internal extension: it delays the freeze. And Lambda sends SIGTERM only to environments that have an extension.

An invocation is over, and the environment may be frozen, once the runtime *and* every extension have asked for the next
event. This one asks only when the runs that a request started have finished or been handed over. Source: Lambda Extensions
API; an internal extension can register for INVOKE only, and only during initialisation.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

NAME = "slackwater"
REGISTER_SECONDS = 2.0
API = "/2020-01-01/extension"


class Extension:
    """One per execution environment. Calls `after` for each invocation, with its request id and its monotonic deadline.

    `after` must return before that deadline: until then the environment is not frozen.
    """

    def __init__(self, runtime_api: str, after: Callable[[str, float], None]) -> None:
        self._runtime_api = runtime_api
        self._after = after
        self._id = ""

    def register(self) -> bool:
        """Register and start following invocations. False if there is no Extensions API or it refuses."""
        try:
            connection = self._connect(REGISTER_SECONDS)
            status, headers, body = _call(
                connection, "POST", "/register", {"Lambda-Extension-Name": NAME}, {"events": ["INVOKE"]}
            )
            connection.close()
        except (OSError, http.client.HTTPException) as problem:
            status, headers, body = 0, {}, str(problem).encode()
        self._id = headers.get("lambda-extension-identifier", "")
        if status != 200 or not self._id:
            log.warning(
                "no extension: responses wait for their runs",
                extra={
                    "event": "extension.refused",
                    "status": status,
                    "answer": body.decode(errors="replace"),
                },
            )
            return False
        threading.Thread(target=self._follow, name="extension", daemon=True).start()
        return True

    def _follow(self) -> None:
        while True:
            # No timeout: it returns with the next invocation, and in between the environment is frozen.
            connection = self._connect(None)
            try:
                status, _, body = _call(
                    connection, "GET", "/event/next", {"Lambda-Extension-Identifier": self._id}
                )
            except (OSError, http.client.HTTPException):
                return  # the environment is shutting down
            finally:
                connection.close()
            if status != 200:
                log.error("the Extensions API answers %s", status, extra={"event": "extension.failed"})
                return
            event = json.loads(body)
            if event.get("eventType") == "INVOKE":
                deadline = time.monotonic() + event["deadlineMs"] / 1000 - time.time()
                try:
                    self._after(event["requestId"], deadline)
                except Exception:
                    # If this thread ended, every later invocation would be held until the function times out.
                    log.exception("the end of an invocation failed", extra={"event": "invocation.end_failed"})

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._runtime_api, timeout=timeout)


def _call(
    connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], body: Any = None
) -> tuple[int, dict[str, str], bytes]:
    connection.request(method, API + path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
