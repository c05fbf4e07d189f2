"""What users of a project's own `auth` get, and what its handlers are told."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.differential.caller import Caller, callers, told
from tests.differential.scenario import Play
from tests.differential.scenario import scenario as any_scenario
from tests.differential.script import Answer, Script

NOBODY = "00000000-0000-4000-8000-000000000000"
REFUSALS = ("refused", "asserted", "teapot", "busy", "broken", "nonsense")
WHO: dict[str, Any] = {"assistant_id": "who", "input": {"text": "a"}}


def scenario(name: str) -> Any:
    def add(play: Play) -> Play:
        return any_scenario(f"users.{name}", project="guarded")(play)

    return add


def for_each(name: str, *users: str) -> Any:
    """A scenario for each of the users: the official server takes a second for each run, one after another."""

    def add(play: Any) -> Any:
        for user in users:
            scenario(f"{name}.{user}")(partial(_as, play, user))
        return play

    return add


async def _as(play: Any, user: str, s: Script) -> None:
    await play(s, Caller(s, user))


@scenario("authenticate")
async def authenticate(s: Script) -> None:
    (alice,) = callers(s, "alice")
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Forbidden x"}):
        for path in ("/threads/x", f"/threads/{NOBODY}", "/no/such/path", "/mcp/"):
            await s.get(path, headers=headers, label=f"{headers.get('authorization')} GET {path}")
    for path in ("/ok", "/info", "/metrics", "/openapi.json", "/docs"):
        answer = await s.ask("GET", path)
        s.note(f"GET {path}", answer.status)
    heard = {"x-tell": "1"}
    await alice.post("/threads/search?a=1&b=2", {}, headers=heard)
    await alice.get(f"/threads/{NOBODY}?x=%20y", headers=heard)
    await told(s, "authenticate")


@for_each("kinds", "word", "person", "pair", "alice")
async def kinds(s: Script, caller: Caller) -> None:
    """A user that is a word, an object, a pair, a dict: what handlers and nodes see of it."""
    await caller.post("/runs/wait", WHO)
    await caller.post("/runs/wait", {"assistant_id": "made", "input": {}})
    await caller.get("/assistants/made/graph")
    await told(s, "all of it")


@scenario("threads")
async def threads(s: Script) -> None:
    alice, bob = callers(s, "alice", "bob")
    made = await alice.post("/threads", {"metadata": {"a": 1, "owner": bob.identity}})
    path = f"/threads/{made['thread_id']}"
    await told(s, "create")
    for caller in (alice, bob):
        await caller.get(path)
        await told(s, "read")
        await caller.patch(path, {"metadata": {"b": 2, "owner": bob.identity}})
        await told(s, "update")
        for below in ("state", "history"):
            await caller.get(f"{path}/{below}")
        await caller.post(f"{path}/history", {"limit": 3})
        await told(s, "state")
        await caller.post(f"{path}/state", {"values": {"text": "b"}, "as_node": "node"})
        await told(s, "state update")
        await caller.get(f"{path}/runs")
        await told(s, "runs")
        for what in ("search", "count"):
            await caller.post(f"/threads/{what}", {"metadata": {"a": 1}})
            await told(s, what)
        await caller.post("/threads", {"thread_id": made["thread_id"], "if_exists": "do_nothing"})
        await caller.post("/threads", {"thread_id": made["thread_id"]})
        await told(s, "create again")
    await bob.post(f"{path}/copy")
    await told(s, "copy")
    copied = await alice.post(f"{path}/copy")
    await told(s, "copy")
    await alice.get(f"/threads/{copied['thread_id']}")
    await bob.get(f"/threads/{copied['thread_id']}")
    for caller in (bob, alice, alice):
        await caller.delete(path)
        await told(s, "delete")


@for_each("refusals", *REFUSALS, "reader", "alone", "deep")
async def refusals(s: Script, caller: Caller) -> None:
    """Every answer that refuses, on every kind of request."""
    (alice,) = callers(s, "alice")
    path = await alice.thread()
    run: dict[str, Any] = {"assistant_id": "who", "input": {}}
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/threads", {}),
        ("GET", path, ...),
        ("PATCH", path, {"metadata": {"x": 1}}),
        ("DELETE", path, ...),
        ("POST", "/threads/search", {}),
        ("POST", "/threads/count", {}),
        ("POST", f"{path}/copy", ...),
        ("GET", f"{path}/state", ...),
        ("POST", f"{path}/state", {"values": {"text": "x"}, "as_node": "node"}),
        ("GET", f"{path}/history", ...),
        ("POST", "/threads/prune", {"thread_ids": [path.rpartition("/")[2]], "strategy": "delete"}),
        ("POST", f"{path}/runs", run),
        ("POST", f"{path}/runs/wait", run),
        ("POST", f"{path}/runs/stream", run),
        ("POST", "/runs", run),
        ("POST", "/runs/wait", run),
        ("POST", "/runs/stream", run),
        ("POST", "/runs/batch", [run]),
        ("GET", f"{path}/runs", ...),
        ("POST", "/assistants", {"graph_id": "who"}),
        ("POST", "/assistants/search", {}),
        ("POST", "/assistants/count", {}),
        ("GET", "/assistants/who", ...),
        ("GET", "/assistants/who/schemas", ...),
        ("POST", "/runs/crons", {**run, "schedule": "0 0 1 1 *"}),
        ("POST", "/runs/crons/search", {}),
        ("POST", "/runs/crons/count", {}),
        ("PUT", "/store/items", {"namespace": ["n"], "key": "k", "value": {}}),
        ("GET", "/store/items?namespace=n&key=k", ...),
        ("POST", "/store/items/search", {"namespace_prefix": ["n"]}),
        ("DELETE", "/store/items", {"namespace": ["n"], "key": "k"}),
    ]
    # Each answer is treated the same everywhere: all requests are tried with two of them.
    for method, where, body in requests if caller.name in ("refused", "reader") else requests[::5]:
        await caller.call(method, where, body)


async def one_of_each(maker: Caller, team: list[Caller]) -> dict[str, str]:
    """Threads that the filters tell apart, by their names; not written down."""
    ids = [caller.identity for caller in team]
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "team": {"team": "red"},
        "public": {"team": "red", "public": True},
        "published": {"team": "red", "public": 1},
        "private": {"team": "red", "public": False},
        "theirs": {"owner": ids[0]},
        "one": {"members": [ids[0]]},
        "all": {"members": [*ids, "everybody"]},
        "text": {"members": ids[0]},
        "object": {"members": {ids[0]: True}},
        "null": {"members": None, "owner": None},
        "x": {"team": "red", "members": ["x"], "public": True},
    }
    made = {}
    for name, metadata in kinds.items():
        made[name] = await maker.thread(name=name, **metadata)
    return made


@scenario("filters")
async def filters(s: Script) -> None:
    names = ("ann", "lead", "nested", "both", "reader", "empty")
    team = callers(s, *names)
    (maker,) = callers(s, "empty")
    for caller in team:
        # Each has threads that their own filter tells apart.
        made = await one_of_each(maker, [caller])
        seen: dict[str, Any] = {}
        for name, path in made.items():
            seen[name] = (await caller.ask("GET", path)).status
        s.note(f"{caller.name} sees", seen)
        search = {
            "metadata": {"scenario": caller.scenario},
            "limit": 100,
            "sort_by": "created_at",
            "sort_order": "asc",
        }
        found = await caller.ask("POST", "/threads/search", search)
        s.note(f"{caller.name} finds", [thread["metadata"]["name"] for thread in found.body])
        counted = await caller.ask("POST", "/threads/count", {"metadata": {"scenario": caller.scenario}})
        s.note(f"{caller.name} counts", counted.body)
        await caller.post("/threads/search", {**search, "limit": 1, "offset": 1, "select": ["metadata"]})
        for path in made.values():
            await maker.ask("DELETE", path)


@scenario("runs")
async def runs(s: Script) -> None:
    """Another's run, on another's thread, and one's own."""
    alice, bob = callers(s, "alice", "bob")
    path = await alice.thread()
    for caller in (alice, bob):
        made = await caller.post(f"{path}/runs", {**WHO, "metadata": {"m": 1}})
        await told(s, "run")
        if caller is alice:
            run_id, run = made["run_id"], f"{path}/runs/{made['run_id']}"
        await alice.ask("GET", f"{run}/join")
        await caller.get(run)
        await told(s, "read run")
        await caller.get(f"{run}/join")
        await told(s, "join")
        await caller.get(f"{run}/stream")
        await told(s, "join stream")
        await caller.get(f"{path}/runs")
        await told(s, "runs")
        await caller.post(f"{path}/runs/wait", WHO)
        await told(s, "wait")
        await caller.post(f"{path}/runs/stream", {**WHO, "stream_mode": ["values"]})
        await told(s, "stream")
        await caller.post(f"{run}/cancel")
        await caller.post("/runs/cancel", {"thread_id": path.rpartition("/")[2], "run_ids": [run_id]})
        await told(s, "cancel")
        await caller.get(f"{path}/state")
        await caller.get(path)
    for caller in (bob, alice):
        await caller.delete(run)
        await told(s, "delete")
    for caller in (alice, bob):
        new = s.id(f"new thread of {caller.name}")
        await caller.post(f"/threads/{new}/runs/wait", {**WHO, "if_not_exists": "create"})
        await told(s, "wait on a new thread")
        await caller.get(f"/threads/{new}")
        await caller.post(f"/threads/{NOBODY}/runs", WHO)
        await told(s, "no thread")
    await bob.post(f"{path}/runs/wait", {**WHO, "if_not_exists": "create"})
    await bob.post(f"{path}/runs/stream", {**WHO, "if_not_exists": "create"})


@for_each("runs.stateless", "alice", "carol", "ann", "reader", "blind", "unseeing", "empty", "changer")
async def runs_stateless(s: Script, caller: Caller) -> None:
    for way in ("wait", "stream"):
        await caller.post(f"/runs/{way}", {**WHO, "metadata": {"team": "red", "scenario": caller.scenario}})
        await told(s, f"/runs/{way}")
    made = await caller.post("/runs", {**WHO, "on_completion": "keep"})
    await told(s, "/runs")
    if made.status == 200:
        path = f"/threads/{made['thread_id']}"
        await caller.get(f"{path}/runs/{made['run_id']}/join")
        await caller.get(path)
    await caller.post("/runs/batch", [WHO, WHO])


@for_each("runs.roles", "ann", "ben", "lead", "reader", "nested", "changer")
async def runs_roles(s: Script, caller: Caller) -> None:
    """On a thread that others share, by what each may do."""
    maker, ann, lead = callers(s, "admin", "ann", "lead")
    path = await maker.thread(team="red", public=True, members=[ann.identity, lead.identity, "everybody"])
    await told(s, "nothing yet")
    await caller.post(f"{path}/runs/wait", WHO)
    await caller.post(f"{path}/runs/stream", WHO)
    made = await caller.post(f"{path}/runs", WHO)
    if made.status == 200:
        run = f"{path}/runs/{made['run_id']}"
        await maker.ask("GET", f"{run}/join")
        await caller.get(run)
        await caller.get(f"{run}/join")
        await caller.get(f"{run}/stream")
        await caller.delete(run)
    await caller.get(f"{path}/runs")
    await caller.get(f"{path}/state")
    await caller.post(f"{path}/state", {"values": {"text": caller.name}, "as_node": "node"})
    await caller.post(f"{path}/history", {"limit": 1})
    copied = await caller.post(f"{path}/copy")
    if copied.status == 200:
        await caller.get(f"/threads/{copied['thread_id']}")
    await caller.patch(path, {"metadata": {caller.name: True}})
    await caller.get(path)
    await told(s, "all of it")
    await maker.post(f"{path}/runs/wait", WHO)
    await maker.get(path)
    # Who is taken off the thread sees it no more.
    await caller.patch(path, {"metadata": {"members": [], "team": "blue", "public": False}})
    await caller.get(path)
    await caller.post(f"{path}/runs", WHO)
    prune = {"thread_ids": [path.rpartition("/")[2]], "strategy": "delete"}
    await caller.post("/threads/prune", prune)
    await maker.post("/threads/prune", prune)
    await told(s, "prune")
    await maker.get(path)


@for_each("runs.unread", "blind", "unseeing")
async def runs_unread(s: Script, caller: Caller) -> None:
    """Who may start runs and not read them."""
    path = await caller.thread()
    made = await caller.post(f"{path}/runs", WHO)
    run = f"{path}/runs/{made['run_id']}"
    for where in (run, f"{run}/join", f"{run}/stream", f"{path}/runs", path, f"{path}/state"):
        await caller.get(where)
    await caller.post(f"{path}/runs/wait", WHO)
    await caller.post(f"{path}/runs/stream", WHO)
    await caller.post(f"{path}/state", {"values": {"text": "x"}, "as_node": "node"})
    await caller.post(f"{path}/copy")
    await caller.post(f"{path}/history", {})
    await caller.post("/threads/search", {"metadata": {"scenario": caller.scenario}})
    await caller.post(f"/threads/{s.id(caller.name)}/runs/wait", {**WHO, "if_not_exists": "create"})


@scenario("changes")
async def changes(s: Script) -> None:
    """What a handler has changed of a request is what is done."""
    (changer,) = callers(s, "changer")
    made = await changer.post("/threads", {"metadata": {"a": 1}})
    path = f"/threads/{made['thread_id']}"
    await changer.patch(path, {"metadata": {"b": 1}})
    await changer.post(f"{path}/runs/wait", {**WHO, "config": {"configurable": {"model": "large"}}})
    await changer.post("/runs/wait", {**WHO, "context": {"model": "large"}})
    await changer.get(path)
    given = {"graph_id": "who", "config": {"configurable": {"model": "large"}}, "metadata": {"a": 1}}
    assistant = await changer.post("/assistants", given)
    await changer.post("/assistants", {"graph_id": "who", "context": {"model": "large"}})
    where = f"/assistants/{assistant['assistant_id']}"
    await changer.patch(where, {"metadata": {"b": 1}})
    await changer.patch(where, {"context": {"c": 1}})
    await changer.post("/runs/wait", {**WHO, "assistant_id": assistant["assistant_id"]})
    cron = await changer.post("/runs/crons", {**WHO, "schedule": "0 0 1 1 *"})
    await changer.patch(f"/runs/crons/{cron['cron_id']}", {"input": {"text": "b"}, "metadata": {"c": 1}})
    await changer.post("/threads/search", {"metadata": {}})


@scenario("runs.cancel")
async def runs_cancel(s: Script) -> None:
    alice, bob = callers(s, "alice", "bob")
    path = await alice.thread()
    nap = {"assistant_id": "nap", "input": {"sleep": 300}}
    made = await alice.ask("POST", f"{path}/runs", nap)
    run = f"{path}/runs/{made['run_id']}"
    await alice.ask("GET", run)
    await bob.post(f"{run}/cancel?wait=true")
    await bob.post("/runs/cancel", {"thread_id": path.rpartition("/")[2], "run_ids": [made["run_id"]]})
    await bob.post("/runs/cancel", {"status": "running"})
    await bob.delete(path)
    await bob.delete(run)
    await told(s, "cancel")
    await alice.post(f"{run}/cancel?wait=true")
    await alice.get(run)
    await told(s, "cancel")


@scenario("assistants")
async def assistants(s: Script) -> None:
    alice, bob, admin, nested, reader = callers(s, "alice", "bob", "admin", "nested", "reader")
    given = {"graph_id": "who", "metadata": {"a": 1, "scenario": alice.scenario}}
    made = await alice.post("/assistants", {**given, "name": "mine"})
    await told(s, "create")
    assistant = made["assistant_id"]
    path = f"/assistants/{assistant}"
    for caller in (alice, bob, admin, nested, reader):
        await caller.get(path)
        for below in ("graph", "schemas", "subgraphs"):
            await caller.get(f"{path}/{below}")
        await told(s, "read")
        await caller.post("/assistants/search", {"metadata": {"scenario": alice.scenario}})
        await caller.post("/assistants/count", {"metadata": {"scenario": alice.scenario}})
        await told(s, "search")
        await caller.patch(path, {"metadata": {"b": caller.name}, "name": caller.name})
        await told(s, "update")
        await caller.post(f"{path}/versions", {})
        await told(s, "versions")
        await caller.post(f"{path}/latest", {"version": 1})
        await told(s, "latest")
        await caller.post("/runs/wait", {**WHO, "assistant_id": assistant})
        await told(s, "run")
        await caller.post("/assistants", {**given, "assistant_id": assistant, "if_exists": "do_nothing"})
        await caller.post("/assistants", {**given, "assistant_id": assistant})
        await told(s, "create again")
    # Those of the graphs
    for caller in (alice, admin):
        await caller.get("/assistants/who")
        await caller.get("/assistants/5f501eca-6e99-55a6-a336-41d4e4c5ce1a")
        await caller.post("/assistants/search", {"graph_id": "who", "limit": 1000})
        await caller.post("/assistants/count", {"graph_id": "made"})
        await caller.get("/assistants/who/schemas")
        await caller.get("/assistants/made/graph")
        await told(s, "of the graphs")
    for caller in (bob, alice, alice):
        await caller.delete(path)
        await told(s, "delete")


@scenario("crons")
async def crons(s: Script) -> None:
    alice, bob, admin, carol = callers(s, "alice", "bob", "admin", "carol")
    given = {**WHO, "schedule": "0 0 1 1 *", "metadata": {"a": 1, "scenario": alice.scenario}}
    made = await alice.post("/runs/crons", given)
    await told(s, "create")
    path = f"/runs/crons/{made['cron_id']}"
    thread = await alice.thread()
    await alice.post(f"{thread}/runs/crons", given)
    await told(s, "create on a thread")
    await bob.post(f"{thread}/runs/crons", given)
    await carol.post("/runs/crons", given)
    await told(s, "create on another's thread")
    for caller in (alice, bob, admin, carol):
        await caller.get(path)
        await told(s, "read")
        await caller.post("/runs/crons/search", {"metadata": {"scenario": alice.scenario}})
        await caller.post("/runs/crons/count", {"metadata": {"scenario": alice.scenario}})
        await told(s, "search")
        await caller.post("/runs/crons/search", {"thread_id": thread.rpartition("/")[2]})
        await caller.post("/runs/crons/count", {"thread_id": thread.rpartition("/")[2]})
        await told(s, "search of a thread")
        await caller.patch(path, {"enabled": False, "metadata": {"b": caller.name}})
        await told(s, "update")
        await caller.patch(path, {"input": {"text": "b"}})
        await told(s, "update")
    for caller in (bob, alice, alice):
        await caller.delete(path)
        await told(s, "delete")


@scenario("store")
async def store(s: Script) -> None:
    alice, bob, reader, nested = callers(s, "alice", "bob", "reader", "empty")
    for caller in (alice, bob, reader, nested):
        for key in ("a", "b"):
            item = {"namespace": ["notes"], "key": key, "value": {"n": 1, "owner": caller.identity}}
            await caller.put("/store/items", item)
        await told(s, "put")
        of_alice = {"namespace": [alice.identity], "key": "k", "value": {"n": 0, "of": caller.name}}
        await caller.put("/store/items", of_alice)
        await caller.get("/store/items?namespace=notes&key=a&refresh_ttl=true")
        await caller.get(f"/store/items?namespace={alice.identity}&key=k")
        await told(s, "get")
        for body in (
            {"namespace_prefix": []},
            {"namespace_prefix": ["notes"], "filter": {"n": 1}},
            {"namespace_prefix": ["notes"], "limit": 1, "offset": 2, "query": None, "refresh_ttl": True},
        ):
            found = await caller.ask("POST", "/store/items/search", body)
            # In which order is not promised.
            items = (found.body or {}).get("items", found.body)
            if isinstance(items, list):
                items = sorted([item["namespace"], item["key"], item["value"]] for item in items)
            s.note(f"{caller.name} finds {body}", [found.status, items])
        await told(s, "search")
        if caller is reader:
            continue
        for body in ({}, {"prefix": ["notes"], "max_depth": 1}, {"suffix": ["notes"], "limit": 1}):
            await caller.post("/store/namespaces", body)
        await told(s, "namespaces")
    for caller in (bob, alice):
        await caller.delete("/store/items", {"namespace": ["notes"], "key": "a"})
        await told(s, "delete")
        await caller.get("/store/items?namespace=notes&key=a")
        kept = {"assistant_id": "keeps", "input": {"text": "k"}}
        await caller.post("/runs/wait", kept)
        await caller.post("/store/items/search", {"namespace_prefix": ["kept"]})


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


JSON = {"accept": "application/json, text/event-stream"}


@for_each("agents", "alice", "bob", "carol", "ann", "refused", "blind", "unseeing")
async def agents(s: Script, caller: Caller) -> None:
    """MCP and A2A, with an assistant of alice's."""
    (alice,) = callers(s, "alice")
    given = {"graph_id": "talk", "name": f"tool of {alice.identity}", "metadata": {}}
    assistant = (await alice.ask("POST", "/assistants", given))["assistant_id"]
    path, hello = (
        f"/a2a/{assistant}",
        {"role": "user", "parts": [{"kind": "text", "text": "a"}], "kind": "message"},
    )
    first = rpc("message/send", message={**hello, "messageId": "first"})
    task = (await alice.ask("POST", path, first, headers=JSON))["result"]["id"]
    await told(s, "nothing yet")
    listed = await caller.ask("POST", "/mcp", rpc("tools/list"), headers=JSON)
    s.note(f"{caller.name} has tools", tools_of(listed, alice.identity))
    await told(s, "tools/list")
    for name in ("who", given["name"]):
        call = rpc("tools/call", name=name, arguments={"text": "a"})
        called = await caller.ask("POST", "/mcp", call, headers=JSON)
        s.note(f"{caller.name} tools/call", [called.status, caller.identity in str(called.body)])
        await told(s, "tools/call")
    for method in ("message/send", "message/stream"):
        call = rpc(method, message={**hello, "messageId": method})
        sent = await caller.ask("POST", path, call, headers=JSON)
        s.note(f"{caller.name} {method}", [sent.status, caller.identity in str(sent)])
        await told(s, method)
    got = await caller.ask("POST", path, rpc("tasks/get", id=task), headers=JSON)
    s.note(f"{caller.name} tasks/get", [got.status, alice.identity in str(got.body)])
    card = await caller.ask("GET", f"/.well-known/agent-card.json?assistant_id={assistant}")
    s.note(f"{caller.name} sees a card", card.status)
    await told(s, "tasks/get")


def tools_of(listed: Answer, identity: str) -> list[Any]:
    """Those of the graphs, and the scenario's own."""
    body = listed.body if isinstance(listed.body, dict) else {}
    names = {tool["name"] for tool in (body.get("result") or {}).get("tools", [])}
    return [listed.status, sorted(name for name in names if "tool of" not in name or identity in name)]


@scenario("protocol")
async def protocol(s: Script) -> None:
    alice, bob, ann = callers(s, "alice", "bob", "ann")
    path = await alice.thread()
    start = {"id": 1, "method": "run.start", "params": WHO}
    for caller in (alice, bob, ann):
        answer = await caller.ask("POST", f"{path}/commands", start)
        s.note(
            f"{caller.name} starts",
            [answer.status, (answer.body or {}).get("type"), (answer.body or {}).get("error")],
        )
        await told(s, "run.start")
    new = s.id("thread")
    answer = await bob.ask("POST", f"/threads/{new}/commands", start)
    s.note("bob starts on a new thread", [answer.status, answer.body.get("type")])
    await told(s, "run.start")
    await bob.ask("GET", f"/threads/{new}/runs/{answer['result']['run_id']}/join")
    await bob.get(f"/threads/{new}/runs")


@scenario("loopback")
async def loopback(s: Script) -> None:
    """What a node calls, it calls as its user."""
    alice, bob = callers(s, "alice", "bob")
    for caller in (alice, bob):
        path = await caller.thread()
        answer = await caller.ask("POST", f"{path}/runs/wait", {"assistant_id": "asks", "input": {}})
        s.note(f"{caller.name} finds", [path.endswith(found) for found in answer["trail"]])


@scenario("sdk")
async def sdk(s: Script) -> None:
    from langgraph_sdk import get_client

    alice, bob = callers(s, "alice", "bob")
    clients = [get_client(url=s.url, api_key=None, headers=caller.headers) for caller in (alice, bob)]
    mine, _ = clients
    thread = await mine.threads.create(metadata={"a": 1})
    s.note("created", thread["metadata"])
    found = [part async for part in mine.runs.stream(thread["thread_id"], "who", input={"text": "a"})]
    s.note("streamed", [[part.event, part.data] for part in found])
    for client in clients:
        try:
            seen: Any = (await client.threads.get(thread["thread_id"]))["metadata"]
        except Exception as error:
            seen = [type(error).__name__, str(error)]
        s.note("gets", seen)
        try:
            parts = [part.event async for part in client.runs.stream(thread["thread_id"], "who", input={})]
        except Exception as error:
            parts = [type(error).__name__]
        s.note("streams", parts)
        await client.aclose()
