"""Exporting an owner: each row as one line of JSON, one at a time in memory, however much there is.

Each table is read as it is when its turn comes. The last line has the numbers of rows: without it the export is not whole.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import ormsgpack

from slackwater.identity.audit import queries as audit
from slackwater.identity.audit.actor import AuditAction
from slackwater.kit.json_format import dumps
from slackwater.kit.labels import label_of
from slackwater.owners import queries
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import BEGINNING, Event, EventId
from slackwater.runtime.events.packs import unpacked


async def export(database: Database, owner: str) -> AsyncIterator[bytes]:
    """Lines such as `{"table": "threads", "row": {…}}`, and at last `{"table": null, "rows": {"threads": 1, …}}`."""
    await audit.add_command(database, AuditAction.OWNER_EXPORTED, owner)
    label, rows = label_of(owner), dict[str, int]()
    for table in queries.EXPORTS:
        name = table.rpartition(".")[2]
        rows[name] = 0
        async with aclosing(queries.export(database, table, owner, label)) as found:
            async for row in found:
                for each in _readable(name, row, label):
                    rows[name] += 1
                    yield dumps({"table": name, "row": each}) + b"\n"
    yield dumps({"table": None, "rows": rows}) + b"\n"


def _readable(table: str, row: dict[str, Any], label: str) -> list[Mapping[str, Any]]:
    match table:
        case "run_events":
            event = Event(EventId(row["fence"], row["seq"]), row["event"], row["data"].encode())
            return [
                {**row, "seq": each.id.seq, "event": each.name, "data": _json(each.data)}
                for each in unpacked(event, BEGINNING)
            ]
        case "store":
            prefix = row.pop("prefix").removeprefix(label).removeprefix(".")
            return [{"namespace": prefix.split("."), **row}]
        case "checkpoint_blobs" | "checkpoint_writes":
            return [{**row, "blob": value_of(row["type"], row["blob"])}]
    return [row]


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def value_of(kind: str | None, blob: bytes | None) -> Any:
    """What LangGraph's serializer has stored, as data: nothing that it names is imported or called.

    An object is `{"type": "module.Name", "value": its fields or arguments}`. What cannot be read (it is encrypted, or
    pickled) is in base64.
    """
    if blob is None or kind in (None, "null", "empty"):
        return None
    try:
        if kind == "msgpack":
            return _unpack(bytes(blob))
        if kind == "json":
            return json.loads(blob)
    except ValueError:
        pass
    return bytes(blob)


def _unpack(data: bytes) -> Any:
    return ormsgpack.unpackb(data, ext_hook=_object, option=ormsgpack.OPT_NON_STR_KEYS)


def _object(code: int, data: bytes) -> Any:
    value = _unpack(data)
    match value:
        case [str(module), str(name), value, *_]:
            return {"type": f"{module}.{name}", "value": value}
    return value
