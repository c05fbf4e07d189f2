"""All rows of a thread, so that those of two threads can be compared."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import UUID

from rig import Fleet

TABLES = (
    "slackwater.threads",
    "slackwater.runs",
    "slackwater.run_events",
    "slackwater.base_writes",
    "slackwater.messages",
    "slackwater.token_usage",
    "slackwater.webhooks",
)

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d")


async def all_rows(fleet: Fleet, thread_id: UUID) -> list[str]:
    """All rows of the thread, to the bit, but for the names of ids and what clocks and counters say."""
    names: dict[str, str] = {}
    texts = []
    for table in TABLES:
        rows = await fleet.database.fetch(
            f"select to_jsonb(x) as content from {table} x where x.thread_id::text = %s order by 1",
            [str(thread_id)],
        )
        for row in rows:
            content = {**row["content"]}
            if table == "slackwater.runs":
                content |= {"seq": 0, "worked_seconds": content["worked_seconds"] > 0}
            texts.append(nameless(json.dumps(content, sort_keys=True), names))
    return texts


def nameless(text: str, names: dict[str, str]) -> str:
    """With numbers in place of ids, and without times."""
    return _TIME.sub("<time>", _ID.sub(lambda found: names.setdefault(found[0], f"<{len(names)}>"), text))


async def everything(fleet: Fleet) -> list[Any]:
    """All that there is, as it is."""
    tables = [table for table in TABLES if table != "slackwater.webhooks"]
    return [await fleet.database.fetch(f"select * from {table} order by 1, 2, 3") for table in tables]
