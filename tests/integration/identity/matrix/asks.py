"""What the matrix asks: at least one request for each route that is served, and one for each method of MCP, A2A and protocol v2."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slackwater.identity.permissions import Permission
from slackwater.protocols.a2a.models import OLD_NAMES, A2aMethod
from slackwater.protocols.events.models import CommandMethod
from slackwater.protocols.mcp.models import McpMethod
from slackwater.web.route_table import ACCOUNTS, WEBSOCKET, permission_of

Ids = Mapping[str, str]

_NAMED = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `{…}` stands for an id of what somebody owns."""

    route: str
    """The method and the path, as the route has it."""
    body: Any = None
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    at: Ids = field(default_factory=dict)
    """What to put in the place of the path's parameters, if not the id of their name."""
    what: str = ""
    """The method of JSON-RPC, or the command."""
    answer: int | None = None
    """The status that its owner gets; None is one of success."""
    hidden: int = 404
    """The status of what is another's."""
    takes: bool = False
    """Whether what is not there would be made with that id: of another's nobody learns more than that it is taken."""
    endless: bool = False
    """Whether the answer goes on for as long as the caller listens: what there is already comes before its first heartbeat."""

    @property
    def method(self) -> str:
        return self.route.partition(" ")[0]

    @property
    def template(self) -> str:
        return self.route.partition(" ")[2]

    @property
    def of_accounts(self) -> bool:
        return self.template.startswith(ACCOUNTS)

    @property
    def path(self) -> str:
        """With the query, and names of ids in it."""
        shown = _NAMED.sub(lambda found: f"{{{self.at.get(found[1], found[1])}}}", self.template)
        return f"{shown}?{self.query}" if self.query else shown

    @property
    def permission(self) -> Permission | None:
        """What the route needs by the table, or as one of the project's own application; None if it is public."""
        if self.template.startswith("/own/"):
            return Permission.APP_READ if self.method == "GET" else Permission.APP_WRITE
        return permission_of(self.method, self.template)

    @property
    def names(self) -> set[str]:
        """The ids in it of what somebody owns."""
        found = _NAMED.findall(json.dumps([self.path, self.body, *self.headers.values()]))
        return set(found) - EVERYBODYS.keys()

    @property
    def spends(self) -> bool:
        """Whether what it names may be gone afterwards."""
        return self.permission is not None and self.permission.action in ("delete", "cancel")

    def filled(self, ids: Ids) -> Request:
        """The request for these ids."""

        def fill(text: str) -> str:
            return _NAMED.sub(lambda found: ids.get(found[1], found[0]), text)

        body = None if self.body is None else fill(json.dumps(self.body)).encode()
        headers = {name: fill(value) for name, value in self.headers.items()}
        return Request(self.method, fill(self.path), body, {"content-type": "application/json", **headers})

    def __str__(self) -> str:
        return " ".join(filter(None, (self.route, self.what)))


@dataclass(frozen=True, slots=True)
class Request:
    """A request, however it is sent."""

    method: str
    path: str
    """With its query."""
    body: bytes | None
    headers: Mapping[str, str]
    kind: int = 0
    """By which kind of event, where there are several."""


OPENED = 101
"""The status of a WebSocket that is let in."""

EVERYBODYS = {
    "everybodys_id": "echo",
    "model": "fast",
    "subgraph": "child",
    "provider": "oidc",
    "artifact": "mnt/user-data/uploads/a.txt",
}
"""What belongs to nobody in particular."""

AGENT = {"assistant_id": "{assistant_id}", "input": {"text": "a"}}
CRON = {**AGENT, "schedule": "0 5 1 1 *"}
ITEM = {"namespace": ["{namespace}"], "key": "{key}"}
TOO_LARGE = {"files": [{"filename": "a.txt", "size": 10**15}]}
NO_UPLOAD = {"files": [{"filename": "a.txt", "upload_id": "none"}]}
NAMED = {"name": "agent"}
SKILL = {"name": "skill"}
SKILL_TEXT = "---\nname: {skill}\ndescription: Changed.\n---\n"
NO_SKILL = {"thread_id": "{thread_id}", "path": "/mnt/user-data/uploads/none.skill"}
WAITING = {"thread_id": "waiting_id", "run_id": "pending_id"}
"""A thread whose run waits for its time."""


def rpc(route: str, method: str, params: Mapping[str, Any] | None = None, **more: Any) -> Ask:
    """A call by JSON-RPC, which is answered with status 200 whatever comes of it."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return Ask(route, body, what=method, hidden=200, **more)


def command(method: str, params: Mapping[str, Any], **more: Any) -> Ask:
    body = {"id": 1, "method": method, "params": params}
    return Ask("POST /threads/{thread_id}/commands", body, what=method, hidden=200, **more)


_TEXT = {"messageId": "m", "role": "user", "parts": [{"kind": "data", "data": {"text": "a"}}]}
_TASK = {"id": "{task_id}"}
_A2A: Mapping[A2aMethod, dict[str, Any]] = {
    A2aMethod.SEND: {"params": {"message": {**_TEXT, "contextId": "{context_id}"}}},
    A2aMethod.SEND_STREAMING: {"params": {"message": {**_TEXT, "contextId": "{context_id}"}}},
    A2aMethod.GET_TASK: {"params": _TASK},
    A2aMethod.LIST_TASKS: {"params": {"contextId": "{context_id}"}},
    A2aMethod.SUBSCRIBE: {"params": _TASK},
    A2aMethod.GET_CARD: {"params": {}},
    # The last one: it has an effect.
    A2aMethod.CANCEL_TASK: {"params": {"id": "{pending_task_id}"}},
}
"""On an assistant of the caller's own, so that only what is named inside the call is another's."""

ASKS: tuple[Ask, ...] = (
    # Public
    *(
        Ask(f"GET {path}")
        for path in (
            "/",
            "/ok",
            "/ready",
            "/health",
            "/info",
            "/docs",
            "/docs/oauth2-redirect",
            "/openapi.json",
        )
    ),
    *(
        Ask(f"GET /docs/{name}")
        for name in ("swagger-ui.css", "swagger-ui-bundle.js", "oauth2-redirect.js", "start.js")
    ),
    Ask("GET /metrics"),
    # Assistants
    Ask("POST /assistants", {"graph_id": "echo"}),
    Ask(
        "POST /assistants",
        {"graph_id": "echo", "assistant_id": "{assistant_id}", "if_exists": "do_nothing"},
        hidden=409,
        takes=True,
    ),
    Ask("POST /assistants/search", {"limit": 1000}),
    Ask("POST /assistants/count", {}),
    Ask("GET /assistants/{assistant_id}"),
    Ask("GET /assistants/{assistant_id}/graph"),
    Ask("GET /assistants/{assistant_id}/schemas"),
    Ask("GET /assistants/{assistant_id}/subgraphs"),
    Ask("GET /assistants/{assistant_id}/subgraphs/{namespace}", at={"namespace": "subgraph"}),
    Ask("POST /assistants/{assistant_id}/versions", {}),
    Ask("PATCH /assistants/{assistant_id}", {"description": "changed"}),
    Ask("POST /assistants/{assistant_id}/latest", {"version": 1}),
    Ask("DELETE /assistants/{assistant_id}"),
    # Threads
    Ask("POST /threads", {}),
    Ask("POST /threads", {"thread_id": "{thread_id}", "if_exists": "do_nothing"}, hidden=409, takes=True),
    Ask("POST /threads/search", {"limit": 1000}),
    Ask("POST /threads/search", {"ids": ["{thread_id}"]}, hidden=200),
    Ask("POST /threads/count", {}),
    Ask("GET /threads/{thread_id}"),
    Ask("GET /threads/{thread_id}/storage"),
    Ask("GET /threads/{thread_id}/stream", endless=True),
    Ask("GET /threads/{thread_id}/state"),
    Ask("GET /threads/{thread_id}/state/{checkpoint_id}"),
    Ask("POST /threads/{thread_id}/state/checkpoint", {"checkpoint": {"checkpoint_id": "{checkpoint_id}"}}),
    Ask("GET /threads/{thread_id}/history"),
    Ask("POST /threads/{thread_id}/history", {"limit": 100}),
    Ask("POST /threads/{thread_id}/copy", hidden=409),
    Ask("PATCH /threads/{thread_id}", {"metadata": {"changed": True}}),
    Ask("POST /threads/{thread_id}/state", {"values": {"text": "changed"}}),
    Ask("POST /threads/prune", {"thread_ids": ["{thread_id}"]}, hidden=200),
    Ask("DELETE /threads/{thread_id}"),
    # Protocol v2
    command(CommandMethod.START, AGENT),
    command(
        CommandMethod.RESPOND,
        {"interrupt_id": "{interrupt_id}", "response": "yes"},
        at={"thread_id": "asking_id"},
    ),
    command(CommandMethod.TREE, {}),
    *(command(each, {}) for each in CommandMethod if each.startswith("subscription.")),
    Ask(
        "POST /threads/{thread_id}/stream/events",
        {"channels": ["values", "lifecycle"]},
        hidden=200,
        endless=True,
    ),
    Ask("GET /threads/{thread_id}/stream/events", answer=405, hidden=405),
    Ask(f"{WEBSOCKET} /threads/{{thread_id}}/stream/events", hidden=OPENED),
    # Runs
    Ask("GET /threads/{thread_id}/runs"),
    Ask("POST /threads/{thread_id}/runs", AGENT),
    Ask("POST /threads/{thread_id}/runs/wait", AGENT),
    Ask("POST /threads/{thread_id}/runs/stream", AGENT),
    Ask("GET /threads/{thread_id}/runs/{run_id}"),
    Ask("GET /threads/{thread_id}/runs/{run_id}/join", hidden=200),
    Ask("GET /threads/{thread_id}/runs/{run_id}/stream", headers={"last-event-id": "-1"}, hidden=200),
    Ask("POST /threads/{thread_id}/runs/{run_id}/cancel", at=WAITING),
    Ask("DELETE /threads/{thread_id}/runs/{run_id}"),
    Ask("POST /runs", AGENT),
    Ask("POST /runs/wait", AGENT),
    Ask("POST /runs/stream", AGENT),
    Ask("POST /runs/batch", [AGENT]),
    Ask("POST /runs/cancel", {"thread_id": "{waiting_id}", "run_ids": ["{pending_id}"]}),
    # Crons
    Ask("POST /runs/crons", CRON),
    Ask("POST /threads/{thread_id}/runs/crons", CRON),
    Ask("POST /runs/crons/search", {"limit": 1000}),
    Ask("POST /runs/crons/count", {}),
    Ask("GET /runs/crons/{cron_id}"),
    Ask("PATCH /runs/crons/{cron_id}", {"enabled": False}),
    Ask("DELETE /runs/crons/{cron_id}"),
    # The store, where each owner has namespaces of their own
    Ask("PUT /store/items", {"namespace": ["mine"], "key": "k", "value": {"text": "a"}}),
    # The gateway
    Ask("GET /api/threads/{thread_id}/messages"),
    Ask("GET /api/threads/{thread_id}/runs/{run_id}/messages"),
    Ask("GET /api/threads/{thread_id}/runs/{run_id}/events"),
    Ask("GET /api/runs/{run_id}/messages"),
    Ask("GET /api/threads/{thread_id}/token-usage"),
    Ask("GET /api/usage"),
    Ask("PUT /api/threads/{thread_id}/runs/{run_id}/feedback", {"rating": 1}),
    Ask("POST /api/threads/{thread_id}/runs/{run_id}/feedback", {"rating": -1, "message_id": "said"}),
    Ask("GET /api/threads/{thread_id}/runs/{run_id}/feedback"),
    Ask("GET /api/threads/{thread_id}/runs/{run_id}/feedback/stats"),
    Ask("GET /api/runs/{run_id}/feedback"),
    Ask("DELETE /api/threads/{thread_id}/runs/{run_id}/feedback/{feedback}", at={"feedback": "feedback_id"}),
    Ask("DELETE /api/threads/{thread_id}/runs/{run_id}/feedback"),
    Ask("GET /api/memory"),
    Ask("POST /api/memory/reload"),
    Ask("GET /api/memory/export"),
    Ask("GET /api/memory/config"),
    Ask("GET /api/memory/status"),
    Ask("POST /api/memory/facts", {"content": "more"}),
    Ask("PATCH /api/memory/facts/{fact_id}", {"confidence": 1}),
    Ask("DELETE /api/memory/facts/{fact_id}"),
    Ask("POST /api/memory/import", {}),
    Ask("DELETE /api/memory"),
    Ask("GET /api/models"),
    Ask("GET /api/models/{name}", at={"name": "model"}),
    # What is not there yet may be another's thread tomorrow: nobody is told more than that it is one now.
    Ask("POST /api/threads/{thread_id}/suggestions", {"messages": []}, takes=True),
    Ask("POST /api/threads", {}),
    Ask("POST /api/threads", {"thread_id": "{thread_id}"}, takes=True),
    Ask("POST /api/threads/search", {"limit": 1000}),
    Ask("GET /api/threads/{thread_id}"),
    Ask("GET /api/threads/{thread_id}/state"),
    Ask("POST /api/threads/{thread_id}/history", {"limit": 100}),
    Ask("PATCH /api/threads/{thread_id}", {"metadata": {"changed": True}}),
    Ask("POST /api/threads/{thread_id}/state", {"values": {"text": "changed"}}),
    Ask("GET /api/threads/{thread_id}/runs"),
    Ask("POST /api/threads/{thread_id}/runs", {**AGENT, "multitask_strategy": "enqueue"}, takes=True),
    Ask("POST /api/threads/{thread_id}/runs/wait", {**AGENT, "multitask_strategy": "enqueue"}, takes=True),
    Ask("POST /api/threads/{thread_id}/runs/stream", {**AGENT, "multitask_strategy": "enqueue"}, takes=True),
    Ask("POST /api/runs/wait", AGENT),
    Ask("POST /api/runs/stream", AGENT),
    Ask("GET /api/threads/{thread_id}/runs/{run_id}"),
    Ask("GET /api/threads/{thread_id}/runs/{run_id}/join"),
    Ask("GET /api/threads/{thread_id}/runs/{run_id}/stream", headers={"last-event-id": "-1"}),
    Ask("POST /api/threads/{thread_id}/runs/{run_id}/stream", headers={"last-event-id": "-1"}),
    Ask("POST /api/threads/{thread_id}/runs/{run_id}/cancel", at=WAITING),
    Ask("POST /api/assistants/search", {"limit": 1000}),
    Ask("GET /api/assistants/{assistant_id}"),
    Ask("GET /api/assistants/{assistant_id}/graph"),
    Ask("GET /api/assistants/{assistant_id}/schemas"),
    Ask("DELETE /api/threads/{thread_id}"),
    Ask("POST /api/threads/{thread_id}/uploads", {}, answer=400, takes=True),  # it is no form
    Ask("GET /api/threads/{thread_id}/uploads/limits", takes=True),
    Ask("GET /api/threads/{thread_id}/uploads/list", takes=True),
    Ask("DELETE /api/threads/{thread_id}/uploads/{filename}", at={"filename": "model"}, answer=404),
    Ask("POST /api/threads/{thread_id}/uploads/presign", TOO_LARGE, answer=413, takes=True),
    Ask("POST /api/threads/{thread_id}/uploads/complete", NO_UPLOAD, answer=404),
    Ask("GET /api/threads/{thread_id}/artifacts/{path}", at={"path": "artifact"}, answer=404),
    Ask("GET /api/agents"),
    Ask("POST /api/agents", {"name": "no name!"}, answer=422),  # those of others take none away
    Ask("GET /api/agents/check", query="name=free"),
    Ask("GET /api/agents/{name}", at=NAMED),
    Ask("PUT /api/agents/{name}", {"soul": "Changed."}, at=NAMED),
    Ask("DELETE /api/agents/{name}", at=NAMED),
    Ask("GET /api/channels/"),
    Ask("POST /api/channels/{name}/restart", at={"name": "model"}, answer=503),  # there are none
    Ask("POST /api/channels/{name}/webhook", {}, at={"name": "model"}, answer=401),  # nor is it signed
    Ask("GET /api/user-profile"),
    Ask("PUT /api/user-profile", {"content": "Changed."}),
    Ask("GET /api/mcp/config"),
    Ask("PUT /api/mcp/config", {"mcp_servers": {"x": {"type": "http"}}}, answer=400),  # it is everybody's
    Ask("GET /api/skills"),
    Ask("GET /api/skills/custom"),
    Ask("POST /api/skills/install", NO_SKILL, answer=404),
    Ask("GET /api/skills/{name}", at=SKILL),
    Ask("PUT /api/skills/{name}", {"enabled": False}, at=SKILL),
    Ask("GET /api/skills/custom/{name}", at=SKILL),
    Ask("GET /api/skills/custom/{name}/history", at=SKILL),
    Ask("PUT /api/skills/custom/{name}", {"content": SKILL_TEXT}, at=SKILL),
    Ask("POST /api/skills/custom/{name}/rollback", {}, at=SKILL),
    Ask("DELETE /api/skills/custom/{name}", at=SKILL),
    Ask("GET /store/items", query="namespace={namespace}&key={key}", hidden=200),
    Ask("POST /store/items/search", {"namespace_prefix": []}),
    Ask("POST /store/items/search", {"namespace_prefix": ["{namespace}"]}, hidden=200),
    Ask("POST /store/namespaces", {}),
    Ask("DELETE /store/items", ITEM, hidden=204),
    # MCP
    rpc("POST /mcp", McpMethod.INITIALIZE, {"protocolVersion": "2025-11-25"}),
    rpc("POST /mcp", McpMethod.PING),
    rpc("POST /mcp", McpMethod.LIST_TOOLS),
    rpc("POST /mcp", McpMethod.CALL_TOOL, {"name": "{tool}", "arguments": {"text": "a"}}),
    Ask("GET /mcp", headers={"last-event-id": "{call}"}),
    Ask("DELETE /mcp", answer=404),
    # A2A
    Ask("GET /.well-known/agent-card.json", query="assistant_id={assistant_id}"),
    *(
        Ask(f"GET /a2a/{{assistant_id}}{card}")
        for card in ("", "/.well-known/agent-card.json", "/.well-known/agent.json")
    ),
    Ask("POST /a2a/{assistant_id}", {"jsonrpc": "2.0", "id": 1, "method": A2aMethod.GET_CARD}),
    Ask("POST /a2a/{assistant_id}/", {"jsonrpc": "2.0", "id": 1, "method": A2aMethod.GET_CARD}),
    *(
        rpc(
            "POST /a2a/{assistant_id}",
            name,
            _A2A[method]["params"],
            at={"assistant_id": "everybodys_id"},
            takes=method in (A2aMethod.SEND, A2aMethod.SEND_STREAMING),
        )
        for method in _A2A
        for name in (method, *(old for old, new in OLD_NAMES.items() if new is method))
    ),
    # The project's own application
    Ask("GET /own/threads"),
    Ask("POST /own/threads", {}),
    Ask(f"{WEBSOCKET} /own/socket"),
    # Accounts. Whoever is let in is told what is wrong with the request, where otherwise somebody would be made, or counted
    Ask("GET /api/v1/auth/setup-status"),
    Ask("GET /api/v1/auth/setup", answer=303),
    Ask("POST /api/v1/auth/initialize", {"email": "a@example.com", "password": "short"}, answer=409),
    Ask("POST /api/v1/auth/register", {"email": "a@example.com", "password": "short"}, answer=422),
    Ask("POST /api/v1/auth/login/local", {}, answer=422),
    Ask("POST /api/v1/auth/token", {}, answer=422),
    Ask("GET /api/v1/auth/oauth/{provider}", query="next=//elsewhere", answer=400),
    Ask("GET /api/v1/auth/callback/{provider}", answer=400),
    Ask("POST /api/v1/auth/oauth/{provider}/link", query="next=//elsewhere", answer=400),
    Ask("GET /api/v1/auth/me"),
    Ask(
        "POST /api/v1/auth/change-password",
        {"current_password": "short", "new_password": "short"},
        answer=422,
    ),
    Ask("GET /api/v1/auth/sessions"),
    Ask("DELETE /api/v1/auth/sessions/{session_id}"),
    Ask("GET /api/v1/auth/users"),
    Ask("PATCH /api/v1/auth/users/{user_id}", {"disabled": False, "role": "user"}),
    # The last one: it ends the session that it is sent with.
    Ask("POST /api/v1/auth/logout"),
)
"""In the order in which they are sent. What has the ids of one owner is also sent with those of another, and with ids of nothing."""


def called(thread_id: str, run_id: str) -> str:
    """The id of an event of MCP, by which an answer is asked for again."""
    return f"{thread_id}:{run_id}:{urlsafe_b64encode(b'1').decode()}"
