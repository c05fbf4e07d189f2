"""DeerFlow's own `langgraph.json`, as it is (deerflow-clients.md, 6: its `langgraph.json`, unmodified; whose files)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api

AS_IT_IS = {
    "$schema": "https://langgra.ph/schema.json",
    "python_version": "3.12",
    "dependencies": ["."],
    "env": ".env",
    "graphs": {"lead_agent": "deerflow.agents:make_lead_agent"},
    "auth": {"path": "./app/gateway/langgraph_auth.py:auth"},
    "checkpointer": {
        "path": "./packages/harness/deerflow/runtime/checkpointer/async_provider.py:make_checkpointer"
    },
}

FILES = {
    ".env": "DEERFLOW_TEST=from .env\n",
    "app/__init__.py": "",
    "app/gateway/__init__.py": "",
    "app/gateway/deps.py": """
ENGINE = None


def get_local_provider():
    if ENGINE is None:
        raise RuntimeError("get_local_provider() called before init_engine_from_config()")
    return ENGINE
""",
    "app/gateway/langgraph_auth.py": """
from langgraph_sdk import Auth

from app.gateway.deps import get_local_provider

auth = Auth()


@auth.authenticate
async def authenticate(request):
    token = request.cookies.get("access_token")
    if not token:
        raise Auth.exceptions.HTTPException(status_code=401, detail="Not authenticated")
    return get_local_provider()[token]


@auth.on
async def add_owner_filter(ctx, value):
    value.setdefault("metadata", {})["user_id"] = ctx.user.identity
    return {"user_id": ctx.user.identity}
""",
    "deerflow/__init__.py": "",
    "deerflow/user_context.py": """
from contextvars import ContextVar

_user = ContextVar("deerflow_user", default=None)
set_current_user, reset_current_user = _user.set, _user.reset


def get_effective_user_id():
    return _user.get().id if _user.get() is not None else "default"
""",
    "deerflow/agents.py": """
import os
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

from deerflow.user_context import get_effective_user_id


class ThreadState(TypedDict, total=False):
    made_for: Any
    ran_for: Any
    env: Any


def make_lead_agent(config):
    made_for = get_effective_user_id()

    def say(state: ThreadState) -> ThreadState:
        return {"made_for": made_for, "ran_for": get_effective_user_id(), "env": os.environ["DEERFLOW_TEST"]}

    return StateGraph(ThreadState).add_node(say).add_edge(START, "say").compile()
""",
    "identity.py": """
from contextlib import contextmanager

from deerflow.user_context import reset_current_user, set_current_user


@contextmanager
def as_owner(user):
    token = set_current_user(user)
    try:
        yield
    finally:
        reset_current_user(token)
""",
}


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "backend"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "langgraph.json").write_text(json.dumps(AS_IT_IS))
    monkeypatch.setenv("DEERFLOW_TEST", "")
    monkeypatch.delenv("DEERFLOW_TEST")
    ours = ("app", "deerflow")
    there = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ours}
    for name in there:
        del sys.modules[name]
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] in ours]:
        del sys.modules[name]
    sys.modules.update(there)


async def ran(api: Api, token: str) -> Any:
    client = api.client(cookie=f"access_token={token}")
    body = {"assistant_id": "lead_agent", "input": {}}
    return (await client.post("/api/runs/wait", json=body)).json()


async def test_it_is_served_as_it_is(
    serve: Callable[..., Any], backend: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`dependencies`, `env`, `auth` with and without its database, `checkpointer.path`; and `run_context`, which is all that is added."""
    async with serve(gateway=True, project=backend) as api:
        assert "no effect because Postgres is the only checkpointer: path" in caplog.text
        # WHEN auth has no database, THEN the caller is told whose fault it is, and the log says what is wrong
        client = api.client(cookie="access_token=alice-token")
        answer = await client.post("/api/threads", json={})
        assert (answer.status_code, answer.json()) == (
            500,
            {"detail": "The project's auth failed: the server's log says why."},
        )
        said = "auth (./app/gateway/langgraph_auth.py:auth): authenticate failed: RuntimeError: get_local_provider()"
        assert f"{said} called before init_engine_from_config()" in caplog.text
        assert (await api.client().post("/api/threads", json={})).status_code == 401

        # WHEN it has, THEN its users are the owners; without `run_context` DeerFlow takes all of them for one
        sys.modules["app.gateway.deps"].ENGINE = {"a": "alice", "b": "bob"}  # type: ignore[attr-defined]
        assert os.environ["DEERFLOW_TEST"] == "from .env"
        assert await ran(api, "a") == {"made_for": "default", "ran_for": "default", "env": "from .env"}
        thread = (await api.client(cookie="access_token=a").post("/api/threads", json={})).json()["thread_id"]
        assert (await api.client(cookie="access_token=b").get(f"/api/threads/{thread}")).status_code == 404

    (backend / "langgraph.json").write_text(json.dumps({**AS_IT_IS, "run_context": "./identity.py:as_owner"}))
    async with serve(gateway=True, project=backend) as api:
        alice, bob = await ran(api, "a"), await ran(api, "b")
        assert alice["made_for"] == alice["ran_for"] != bob["ran_for"] == bob["made_for"]
        assert "alice" in alice["made_for"]
        assert "bob" in bob["made_for"]
