"""Two principals against each other by ids, copies and lists: what is another's answers exactly like what is not there. `matrix` has every route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import Api

from slackwater.kit.ids import uuid7

RUN = {"assistant_id": "echo", "input": {"text": "a"}}
CRON = {**RUN, "schedule": "0 5 1 1 *"}
MESSAGE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "message/send",
    "params": {"message": {"messageId": "m", "parts": [{"data": {"text": "a"}}]}},
}

# What to send to each route that an id leads to. `{…}` stands for the ids of one owner, or of nobody. The last ones
# change what they are sent to.
BY_ID: dict[str, Any] = {
    "GET /assistants/{assistant_id}": None,
    "GET /assistants/{assistant_id}/graph": None,
    "GET /assistants/{assistant_id}/schemas": None,
    "GET /assistants/{assistant_id}/subgraphs": None,
    "GET /assistants/{assistant_id}/subgraphs/{namespace}": None,
    "POST /runs": {"assistant_id": "{assistant_id}"},
    "POST /runs/wait": {"assistant_id": "{assistant_id}"},
    "POST /runs/stream": {"assistant_id": "{assistant_id}"},
    "POST /runs/batch": [{"assistant_id": "{assistant_id}"}],
    "GET /threads/{thread_id}": None,
    "GET /threads/{thread_id}/storage": None,
    "GET /threads/{thread_id}/stream": None,
    "GET /threads/{thread_id}/state": None,
    "GET /threads/{thread_id}/state/{checkpoint_id}": None,
    "POST /threads/{thread_id}/state/checkpoint": {"checkpoint": {"checkpoint_id": "{checkpoint_id}"}},
    "GET /threads/{thread_id}/history": None,
    "POST /threads/{thread_id}/history": {"limit": 100},
    "GET /threads/{thread_id}/runs": None,
    "GET /threads/{thread_id}/runs/{run_id}": None,
    "POST /threads/{thread_id}/copy": None,
    "PATCH /threads/{thread_id}": {"metadata": {"mine": True}},
    "PATCH /assistants/{assistant_id}": {"name": "mine"},
    "POST /assistants/{assistant_id}/versions": {},
    "POST /assistants/{assistant_id}/latest": {"version": 1},
    "POST /threads/{thread_id}/runs/{run_id}/cancel": None,
    "GET /threads/{thread_id}/runs/{run_id}/join": None,
    "GET /threads/{thread_id}/runs/{run_id}/stream": None,
    "POST /runs/cancel": {"thread_id": "{thread_id}", "run_ids": ["{run_id}"]},
    "POST /threads/{thread_id}/commands": {
        "id": 1,
        "method": "input.respond",
        "params": {"interrupt_id": "none", "response": 1},
    },
    "POST /threads/{thread_id}/state": {"values": {"text": "mine"}},
    "POST /threads/{thread_id}/runs": RUN,
    "POST /threads/{thread_id}/runs/wait": RUN,
    "POST /threads/{thread_id}/runs/stream": {**RUN, "multitask_strategy": "rollback"},
    "POST /runs/crons": {**CRON, "assistant_id": "{assistant_id}"},
    "POST /threads/{thread_id}/runs/crons": CRON,
    "GET /runs/crons/{cron_id}": None,
    "PATCH /runs/crons/{cron_id}": {"enabled": False},
    "DELETE /runs/crons/{cron_id}": None,
    "GET /a2a/{assistant_id}": None,
    "GET /a2a/{assistant_id}/.well-known/agent-card.json": None,
    "POST /a2a/{assistant_id}": MESSAGE,
    "DELETE /threads/{thread_id}/runs/{run_id}": None,
    "DELETE /threads/{thread_id}": None,
    "POST /threads/prune": {"thread_ids": ["{thread_id}"]},
    "DELETE /assistants/{assistant_id}": None,
}
LISTS: dict[str, Any] = {
    "POST /assistants/search": {"limit": 1000},
    "POST /assistants/count": {},
    "POST /runs/crons/search": {"limit": 1000},
    "POST /runs/crons/count": {},
    "POST /threads/search": {"limit": 1000},
    "POST /threads/count": {},
    "POST /store/items/search": {"namespace_prefix": []},
    "POST /store/namespaces": {},
}
CREATES: dict[str, Any] = {
    "POST /assistants": {"graph_id": "echo", "assistant_id": "{assistant_id}", "if_exists": "do_nothing"},
    "POST /threads": {"thread_id": "{thread_id}", "if_exists": "do_nothing"},
}
"""An id can be taken only once; all that another learns is that it is."""


def nobody() -> dict[str, str]:
    """Ids of nothing."""
    return {
        "assistant_id": str(uuid4()),
        "thread_id": str(uuid7()),
        "run_id": str(uuid7()),
        "cron_id": str(uuid7()),
        "checkpoint_id": str(uuid7()),
        "namespace": "child",
    }


async def send(client: httpx.AsyncClient, route: str, body: Any, ids: Mapping[str, str]) -> httpx.Response:
    method, path = route.split()
    text = json.dumps(body)
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    return await client.request(method, path.format(**ids), content=text if body is not None else None)


def told(answer: httpx.Response, ids: Mapping[str, str]) -> tuple[int, str, dict[str, str]]:
    """What an answer says, but for the ids and the time."""
    text, headers = answer.text, {name: value for name, value in answer.headers.items() if name != "date"}
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
        headers = {key: header.replace(value, f"<{name}>") for key, header in headers.items()}
    return answer.status_code, text, headers


@pytest.fixture
async def api(serve: Any) -> AsyncIterator[Api]:
    """An application for Alice and Bob."""
    async with serve(names=("alice", "bob")) as api:
        yield api


@pytest.fixture
def alice(api: Api) -> httpx.AsyncClient:
    return api.client("alice")


@pytest.fixture
def bob(api: Api) -> httpx.AsyncClient:
    return api.client("bob")


async def possessions(client: httpx.AsyncClient) -> dict[str, str]:
    """The ids of an assistant, a thread with a history, and a run on it that waits for its time."""
    assistant = (
        await client.post("/assistants", json={"graph_id": "echo", "metadata": {"whose": "mine"}})
    ).json()
    thread = (await client.post("/threads", json={"metadata": {"whose": "mine"}})).json()
    on_thread = f"/threads/{thread['thread_id']}"
    await client.post(f"{on_thread}/runs/wait", json=RUN)
    state = (await client.get(f"{on_thread}/state")).json()
    await client.put("/store/items", json={"namespace": ["hers"], "key": "k", "value": {"whose": "mine"}})
    run = (await client.post(f"{on_thread}/runs", json={**RUN, "after_seconds": 3600})).json()
    cron = (await client.post("/runs/crons", json={**CRON, "metadata": {"whose": "mine"}})).json()
    return {
        "cron_id": cron["cron_id"],
        "assistant_id": assistant["assistant_id"],
        "thread_id": thread["thread_id"],
        "run_id": run["run_id"],
        "checkpoint_id": state["checkpoint_id"],
        "namespace": "child",
    }


@pytest.fixture
async def hers(alice: httpx.AsyncClient) -> dict[str, str]:
    return await possessions(alice)


async def copied(client: httpx.AsyncClient, *, original_is_there: bool) -> dict[str, str]:
    """The ids of a copy of a thread, with that of a finished run of its original."""
    ids = await possessions(client)
    original = f"/threads/{ids['thread_id']}"
    await client.post("/runs/cancel", json={"thread_id": ids["thread_id"], "run_ids": [ids["run_id"]]})
    *_, run = (await client.get(f"{original}/runs")).json()
    assert run["status"] == "success"
    copy = (await client.post(f"{original}/copy")).json()
    if not original_is_there:
        await client.delete(original)
    return {**ids, "thread_id": copy["thread_id"], "run_id": run["run_id"]}


async def everything_of(api: Api, ids: Mapping[str, str]) -> list[list[dict[str, Any]]]:
    """All rows of the first owner."""
    queries = (
        "select * from slackwater.assistants where owner = 'alice' order by assistant_id",
        "select * from slackwater.threads where owner = 'alice' order by thread_id",
        "select * from slackwater.runs where owner = 'alice' order by run_id",
        "select * from slackwater.crons where owner = 'alice' order by cron_id",
        "select * from slackwater.run_events where thread_id = %(thread_id)s order by fence, seq",
        "select * from checkpoints where thread_id = %(thread_id)s order by checkpoint_id",
        "select * from checkpoint_writes where thread_id = %(thread_id)s order by checkpoint_id, task_id, idx",
        "select * from checkpoint_blobs where thread_id = %(thread_id)s order by channel, version",
    )
    return [await api.database.fetch(query, {"thread_id": ids["thread_id"]}) for query in queries]


async def test_anothers_ids_on_ones_own_thread_answer_like_none(
    api: Api, bob: httpx.AsyncClient, hers: dict[str, str], subtests: pytest.Subtests
) -> None:
    his = await possessions(bob)
    before = await everything_of(api, hers)
    for route, body in BY_ID.items():
        if "{run_id}" not in f"{route}{body}" and "{checkpoint_id}" not in f"{route}{body}":
            continue
        with subtests.test(route=route):
            mixed = {**hers, "thread_id": his["thread_id"]}
            absent = {**nobody(), "thread_id": his["thread_id"]}
            answer, expected = await send(bob, route, body, mixed), await send(bob, route, body, absent)
            assert told(answer, mixed) == told(expected, absent)
    assert await everything_of(api, hers) == before


@pytest.mark.parametrize("original_is_there", [True, False])
async def test_a_copy_of_anothers_thread_is_anothers_too(
    api: Api,
    alice: httpx.AsyncClient,
    bob: httpx.AsyncClient,
    subtests: pytest.Subtests,
    original_is_there: bool,
) -> None:
    """Its checkpoints carry the ids of the original's runs, which may be gone: they open no way in."""
    hers = await copied(alice, original_is_there=original_is_there)
    before = await everything_of(api, hers)
    for route, body in BY_ID.items():
        with subtests.test(route=route):
            absent = nobody()
            answer, expected = await send(bob, route, body, hers), await send(bob, route, body, absent)
            assert told(answer, hers) == told(expected, absent)
            assert await everything_of(api, hers) == before


@pytest.mark.parametrize("original_is_there", [True, False])
async def test_a_copy_knows_no_run_of_its_original(
    api: Api, alice: httpx.AsyncClient, subtests: pytest.Subtests, original_is_there: bool
) -> None:
    hers = await copied(alice, original_is_there=original_is_there)
    before = await everything_of(api, hers)
    for route, body in BY_ID.items():
        if "{run_id}" not in f"{route}{body}":
            continue
        with subtests.test(route=route):
            absent = {**hers, "run_id": str(uuid7())}
            answer, expected = await send(alice, route, body, hers), await send(alice, route, body, absent)
            assert told(answer, hers) == told(expected, absent)
            assert await everything_of(api, hers) == before


async def test_a_run_of_another_is_not_found_on_a_copy_of_ones_own(
    api: Api, alice: httpx.AsyncClient, bob: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    """As when threads were handed from one to the other by hand: neither loses anything."""
    hers = await copied(alice, original_is_there=True)
    his = {**hers, "thread_id": (await alice.post(f"/threads/{hers['thread_id']}/copy")).json()["thread_id"]}
    await api.database.execute(
        "update slackwater.threads set owner = 'bob' where thread_id = %s", [his["thread_id"]]
    )
    before = await everything_of(api, hers), await everything_of(api, his)
    for route, body in BY_ID.items():
        if "{run_id}" not in f"{route}{body}":
            continue
        with subtests.test(route=route):
            absent = {**his, "run_id": str(uuid7())}
            answer, expected = await send(bob, route, body, his), await send(bob, route, body, absent)
            assert told(answer, his) == told(expected, absent)
            assert (await everything_of(api, hers), await everything_of(api, his)) == before


async def test_a_run_of_a_copy_is_deleted_with_its_own_checkpoints_only(alice: httpx.AsyncClient) -> None:
    """Or the tests above would show nothing but that nothing is ever deleted."""
    hers = await copied(alice, original_is_there=True)
    on_copy = f"/threads/{hers['thread_id']}"
    before = (await alice.post(f"{on_copy}/history", json={"limit": 100})).json()
    await alice.post(f"{on_copy}/runs/wait", json=RUN)
    (run,) = (await alice.get(f"{on_copy}/runs")).json()

    assert (await alice.delete(f"{on_copy}/runs/{run['run_id']}")).status_code == 204

    assert (await alice.post(f"{on_copy}/history", json={"limit": 100})).json() == before


async def test_a_fork_from_anothers_checkpoint_starts_from_nothing(
    bob: httpx.AsyncClient, hers: dict[str, str]
) -> None:
    his = await possessions(bob)
    await bob.post("/runs/cancel", json={"thread_id": his["thread_id"], "run_ids": [his["run_id"]]})
    for checkpoint in (
        {"checkpoint_id": hers["checkpoint_id"]},
        {"checkpoint": {"thread_id": hers["thread_id"], "checkpoint_id": hers["checkpoint_id"]}},
        {"config": {"configurable": {"checkpoint_id": hers["checkpoint_id"]}}},
    ):
        body = {"assistant_id": "echo", "input": None, **checkpoint}
        answer = await bob.post(f"/threads/{his['thread_id']}/runs/wait", json=body)
        assert answer.json()["__error__"]["error"] == "EmptyInputError"


async def test_lists_hold_nothing_of_another(
    api: Api, bob: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    before = {route: told(await send(bob, route, body, {}), {}) for route, body in LISTS.items()}

    hers = await possessions(api.client("alice"))

    for route, body in LISTS.items():
        with subtests.test(route=route):
            assert told(await send(bob, route, body, {}), {}) == before[route]
    for search in ({"ids": [hers["thread_id"]]}, {"metadata": {"whose": "mine"}}, {"values": {"text": "a"}}):
        assert (await bob.post("/threads/search", json=search)).json() == []
    assert (await bob.post("/assistants/search", json={"metadata": {"whose": "mine"}})).json() == []


async def test_an_id_that_another_has_cannot_be_taken_or_read(
    api: Api, bob: httpx.AsyncClient, hers: dict[str, str], subtests: pytest.Subtests
) -> None:
    before = await everything_of(api, hers)
    for route, body in CREATES.items():
        with subtests.test(route=route):
            assert (await send(bob, route, body, hers)).status_code == 409
            assert (await send(bob, route, body, nobody())).status_code == 200
    for run in ("runs", "runs/wait", "runs/stream"):
        with subtests.test(run=run):
            body = {**RUN, "if_not_exists": "create", "multitask_strategy": "rollback"}
            answer = await bob.post(f"/threads/{hers['thread_id']}/{run}", json=body)
            assert (answer.status_code, answer.json()) == (404, {"detail": "Thread or assistant not found."})
    assert await everything_of(api, hers) == before


async def test_what_everybody_may_use_nobody_may_change(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    (echo,) = (await bob.post("/assistants/search", json={"graph_id": "echo"})).json()
    for client in (alice, bob):
        assert (await client.get(f"/assistants/{echo['assistant_id']}")).json() == echo
        assert (
            await client.patch(f"/assistants/{echo['assistant_id']}", json={"name": "mine"})
        ).status_code == 404
        assert (await client.delete(f"/assistants/{echo['assistant_id']}")).status_code == 404


async def test_the_owner_herself_gets_what_she_asks_for(
    alice: httpx.AsyncClient, hers: dict[str, str], subtests: pytest.Subtests
) -> None:
    """Or the comparisons above would compare nothing."""
    for route, body in BY_ID.items():
        if route == "GET /threads/{thread_id}/stream":  # which has no end
            continue
        with subtests.test(route=route):
            if (
                "/runs/{run_id}" in route or route == "POST /runs/cancel"
            ):  # cancelled by one of the routes before
                run = await alice.post(
                    f"/threads/{hers['thread_id']}/runs", json={**RUN, "after_seconds": 3600}
                )
                hers["run_id"] = run.json()["run_id"]
            if route.endswith(("/join", "/stream")) and route.startswith("GET"):
                await alice.post(f"/threads/{hers['thread_id']}/runs/{hers['run_id']}/cancel")
            if route == "POST /threads/{thread_id}/state":
                await alice.post(
                    f"/threads/{hers['thread_id']}/runs/wait", json={**RUN, "multitask_strategy": "interrupt"}
                )
            answer = await send(alice, route, body, hers)
            assert answer.status_code in (200, 202, 204), answer.text
            assert "not found" not in answer.text.lower()
