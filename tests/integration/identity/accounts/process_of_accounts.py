"""One process of several that have accounts in the same database. Arguments: its URI, the process's name, calls as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from slackwater.errors import ApiError
from slackwater.identity.accounts.account import Device
from slackwater.identity.accounts.service import Accounts
from slackwater.postgres.pool import Database


async def outcome(accounts: Accounts, call: dict[str, Any]) -> str:
    device = Device(call.pop("address", "203.0.113.5"))
    act = getattr(accounts, call.pop("act"))
    try:
        await act(device=device, **call)
    except ApiError as error:
        return type(error).__name__
    return "opened"


async def main(uri: str, name: str, calls: list[dict[str, Any]]) -> None:
    database = Database(uri, max_size=10, statement_seconds=60.0, name=name)
    await database.open()
    accounts = Accounts(database)
    await accounts.warm()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    outcomes = await asyncio.gather(*(outcome(accounts, call) for call in calls))
    print(json.dumps(outcomes), flush=True)
    accounts.close()
    await database.close(5.0)


if __name__ == "__main__":
    uri, name, calls = sys.argv[1:]
    asyncio.run(main(uri, name, json.loads(calls)))
