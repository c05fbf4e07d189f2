"""The socket that a server listens on."""

from __future__ import annotations

import socket

from slackwater.errors import SettingsError

BACKLOG = 2048
"""Connections that may wait while the server starts; asyncio's own once it serves, as uvicorn sets it."""


def listen(host: str, port: int, *, change: str) -> socket.socket:
    """A socket that listens on the address already. Raises SettingsError, which says what to `change`, if it is taken.

    With SO_REUSEADDR, without which a server could not be started again at once, two processes may bind one port; only
    the second `listen` fails. So that comes first: whoever loses has not opened a database, nor claimed a run.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"Cannot listen on {host}:{port} ({error.strerror}): choose another {change}."
        ) from None
    return listener
