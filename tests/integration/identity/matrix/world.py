"""Whose things the matrix asks for: an owner's, each with a word of its own in it, and how the rows of an owner are compared."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from slackwater.kit.ids import uuid7
from slackwater.kit.labels import label_of
from slackwater.owners.queries import EXPORTS
from slackwater.postgres.pool import Database
from tests.integration.identity.matrix.asks import EVERYBODYS, Ids, called

GRAPHS = Path(__file__).parents[3] / "graphs"

APP = """
from fastapi import FastAPI, Request, WebSocket
from langgraph_sdk import get_client

app = FastAPI(openapi_url=None)


@app.get("/own/threads")
async def threads(request: Request):
    return {"caller": request.user.identity, "threads": await get_client().threads.search(limit=1000)}


@app.post("/own/threads")
async def make(request: Request):
    return {"caller": request.user.identity, "thread": await get_client().threads.create()}


@app.websocket("/own/socket")
async def talk(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json(await get_client().threads.search(limit=1000))
    await websocket.close()
"""

Send = Callable[..., Awaitable[Any]]
"""`await send("POST", "/threads", body)`: the JSON of an answer that the owner gets."""


def project(folder: Path) -> Path:
    """A project with the graphs of the tests, and an application of its own that is asked with authentication."""
    folder.mkdir()
    (folder / "web.py").write_text(APP)
    content = {
        "dependencies": [str(GRAPHS)],
        "graphs": {name: f"{GRAPHS}/graphs.py:{name}" for name in ("echo", "hitl")},
        "http": {"app": "./web.py:app", "enable_custom_route_auth": True},
        "gateway": {"agents": {"enabled": True}, "models": [{"name": "fast", "model": "openai:gpt-5-mini"}]},
    }
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


def own_routes() -> list[Any]:
    """The routes of the project's own application."""
    module: dict[str, Any] = {}
    exec(APP, module)
    return list(module["app"].routes)


@dataclass(frozen=True, slots=True)
class Things:
    """What an owner has: ids by name, and the words that nobody else may read."""

    ids: Ids
    words: frozenset[str]


def nothing() -> Ids:
    """Ids of what is not there."""
    thread, run = str(uuid7()), str(uuid7())
    return {
        **EVERYBODYS,
        "assistant_id": str(uuid4()),
        "tool": f"no-tool-{uuid4().hex[:8]}",
        "thread_id": thread,
        "checkpoint_id": str(uuid7()),
        "run_id": run,
        "call": called(thread, run),
        "asking_id": str(uuid7()),
        "interrupt_id": uuid4().hex,
        "waiting_id": str(uuid7()),
        "pending_id": str(uuid7()),
        "context_id": str(uuid7()),
        "task_id": f"{uuid7()}:{uuid7()}",
        "pending_task_id": f"{uuid7()}:{uuid7()}",
        "cron_id": str(uuid7()),
        "namespace": f"no-namespace-{uuid4().hex[:8]}",
        "key": f"no-key-{uuid4().hex[:8]}",
        "feedback_id": str(uuid7()),
        "fact_id": f"fact_{uuid4().hex[:8]}",
        "agent": f"no-agent-{uuid4().hex[:8]}",
        "skill": f"no-skill-{uuid4().hex[:8]}",
        "user_id": str(uuid7()),
        "session_id": str(uuid7()),
    }


async def things_of(send: Send, account: Things) -> Things:
    """Make one of everything; the account is there."""
    words = set(account.words)

    def word(of: str) -> str:
        words.add(made := f"{of}-{uuid4().hex[:12]}")
        return made

    tool = word("tool")
    assistant = await send(
        "POST",
        "/assistants",
        {
            "graph_id": "echo",
            "name": tool,
            "description": word("description"),
            "config": {"configurable": {"marker": word("config")}},
            "metadata": {"text": word("assistant")},
        },
    )
    assistant_id = assistant["assistant_id"]

    async def thread(graph: str, **more: Any) -> tuple[str, Any]:
        made = await send("POST", "/threads", {"metadata": {"text": word("thread")}})
        body = {"assistant_id": graph, "input": {"text": word("input")}, "metadata": {"text": word("run")}}
        how = "runs" if more else "runs/wait"
        return made["thread_id"], await send("POST", f"/threads/{made['thread_id']}/{how}", {**body, **more})

    thread_id, _ = await thread(assistant_id)
    state = await send("GET", f"/threads/{thread_id}/state")
    (run,) = await send("GET", f"/threads/{thread_id}/runs")
    asking_id, asked = await thread("hitl")
    waiting_id, pending = await thread(assistant_id, after_seconds=36_000)
    cron = await send(
        "POST",
        "/runs/crons",
        {
            "assistant_id": assistant_id,
            "schedule": "0 5 1 1 *",
            "input": {"text": word("cron")},
            "metadata": {"text": word("cron")},
        },
    )
    namespace, key = word("namespace"), word("key")
    await send("PUT", "/store/items", {"namespace": [namespace], "key": key, "value": {"text": word("item")}})
    said = await send(
        "PUT",
        f"/api/threads/{thread_id}/runs/{run['run_id']}/feedback",
        {"rating": 1, "comment": word("comment")},
    )
    memory = await send("POST", "/api/memory/facts", {"content": word("fact")})
    task = await send(
        "POST",
        "/a2a/echo",
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "message/send",
            "params": {
                "message": {
                    "messageId": "m",
                    "role": "user",
                    "parts": [{"kind": "data", "data": {"text": word("message")}}],
                }
            },
        },
    )
    ids = {
        **EVERYBODYS,
        **account.ids,
        "assistant_id": assistant_id,
        "tool": tool,
        "thread_id": thread_id,
        "checkpoint_id": state["checkpoint_id"],
        "run_id": run["run_id"],
        "call": called(thread_id, run["run_id"]),
        "asking_id": asking_id,
        "interrupt_id": asked["__interrupt__"][0]["id"],
        "waiting_id": waiting_id,
        "pending_id": pending["run_id"],
        "context_id": task["result"]["contextId"],
        "task_id": task["result"]["id"],
        "pending_task_id": f"{waiting_id}:{pending['run_id']}",
        "cron_id": cron["cron_id"],
        "namespace": namespace,
        "key": key,
        "feedback_id": said["feedback_id"],
        "fact_id": memory["facts"][0]["id"],
    }
    return Things(ids, frozenset(words))


async def with_instructions(database: Database, owner: str, things: Things) -> Things:
    """With an agent, too, and a skill as if it had been installed from an archive. There may be no more than so many of them."""
    agent, soul = f"agent-{uuid4().hex[:12]}", f"soul-{uuid4().hex[:12]}"
    await database.execute(
        "insert into slackwater.agents (owner, name, soul) values (%s, %s, %s)", [owner, agent, soul]
    )
    name, word = f"skill-{uuid4().hex[:12]}", f"told-{uuid4().hex[:12]}"
    await database.execute(
        """insert into slackwater.skills (owner, name, description, content, size) values (%s, %s, %s, %s, 1000)""",
        [owner, name, word, f"---\nname: {name}\ndescription: {word}\n---\n"],
    )
    return Things({**things.ids, "agent": agent, "skill": name}, things.words | {agent, soul, name, word})


_KEPT_APART = ("slackwater.api_keys", "slackwater.audit")
"""They change with whoever sends a key, and with whoever is refused."""

_ROWS = " union all ".join(
    f"select '{name}' as name, x::text as row from ({query}) x"
    for name, query in EXPORTS.items()
    if name not in _KEPT_APART
)


async def rows_of(database: Database, owner: str) -> frozenset[str]:
    """All rows of an owner, as text."""
    found = await database.fetch(_ROWS, {"owner": owner, "label": label_of(owner)})
    return frozenset(f"{row['name']}: {row['row']}" for row in found)


def difference(before: Iterable[str], after: Iterable[str]) -> str:
    """What has gone and what has come, one row a line."""
    gone, come = set(before) - set(after), set(after) - set(before)
    return "\n".join([*(f"- {row}" for row in sorted(gone)), *(f"+ {row}" for row in sorted(come))])
