"""What Schemathesis cannot know of a server from its document. Loaded by Schemathesis, through schemathesis.toml."""

from __future__ import annotations

from typing import Any

import schemathesis

BATCH = 3
LONGEST_BATCH = 1000
LONGEST_SECONDS = 315_360_000


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Nobody waits for runs that are to begin in ten years, or for a thousand of them."""
    if isinstance(case.body, list) and BATCH < len(case.body) <= LONGEST_BATCH:
        case.body = case.body[:BATCH]
    for body in case.body if isinstance(case.body, list) else [case.body]:
        seconds = body.get("after_seconds") if isinstance(body, dict) else None
        if isinstance(seconds, int | float) and 1 < seconds <= LONGEST_SECONDS:
            # Where nobody waits at once, long enough to be cancelled before.
            body["after_seconds"] = int(case.operation.path.endswith("/runs"))


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Names with NUL are refused wherever they are, which no schema can say: Postgres cannot hold them."""
    return b"Property names must not contain NUL" not in response.content
