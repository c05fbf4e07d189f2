"""boto3's clients: one of each for the process, used in threads that are nobody else's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

CONNECT_SECONDS = 1.0
READ_SECONDS = 3.0
ATTEMPTS = 2
"""Whoever waits has a deadline; what fails is tried again by those who called, or is made up for by the sweep."""

_OF_S3: dict[str, Any] = {
    # Files take longer than messages, and many are read and written at a time.
    "read_timeout": 20.0,
    "max_pool_connections": 20,
    # What a URL allows is signed, its headers included.
    "signature_version": "s3v4",
    # A URL that is given out must not ask for a checksum, and others who speak S3 do not know all of them.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

IDLE_SECONDS = 20.0
"""After so long a connection may be dead without a sign of it, in an environment that was frozen above all."""

# A graph's sync nodes may occupy every thread of the loop's own executor.
_threads = ThreadPoolExecutor(4, thread_name_prefix="aws")
_clients: dict[tuple[str, str | None], Any] = {}
_used: dict[tuple[str, str | None], float] = {}
"""When, on the wall clock: the monotonic one may stand still with the environment."""
_lock = threading.Lock()


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call what blocks, in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *arguments)


def client(service: str, region: str | None = None) -> Any:
    """The process's client of a service; `region` where the environment does not say one. Blocks for a moment."""
    with _lock:  # boto3 makes clients in one thread at a time only; using them is safe
        if (service, region) not in _clients:
            import boto3
            from botocore.config import Config

            said = {"read_timeout": READ_SECONDS, **(_OF_S3 if service == "s3" else {})}
            bounds = Config(
                connect_timeout=CONNECT_SECONDS,
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                **said,
            )
            make: Any = boto3.session.Session().client  # its stubs know each service by name
            _clients[service, region] = make(service, region_name=region, config=bounds)
        elif time.time() - _used[service, region] > IDLE_SECONDS:
            _clients[service, region].close()  # its connections; it makes new ones
        _used[service, region] = time.time()
        return _clients[service, region]


def forget() -> None:
    """Make clients anew when they are needed again: after a restore their connections and credentials are old."""
    with _lock:
        _clients.clear()


def region_of(arn: str) -> str | None:
    """The region that an ARN names; None for what is only a name."""
    parts = arn.split(":")
    return parts[3] or None if len(parts) > 5 and parts[0] == "arn" else None
