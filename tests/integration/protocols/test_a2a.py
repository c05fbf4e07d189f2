"""A2A: what the official client sees in both versions of the protocol, and what it would never send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.helpers.proto_helpers import get_artifact_text, get_message_text, new_data_message, new_text_message
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from support.api import Api

Agent = Callable[..., Any]

pytestmark = pytest.mark.parametrize("version", ["1.0", "0.3"])


@pytest.fixture
def agent(api: Api, version: str) -> Agent:
    """The official client of an assistant: `async with agent("chat") as client`."""

    @asynccontextmanager
    async def agent(
        graph: str, *, of: Api = api, name: str | None = None, streaming: bool = False, polling: bool = False
    ) -> AsyncIterator[Client]:
        http = of.client(name)
        card = await A2ACardResolver(http, f"http://127.0.0.1:2024/a2a/{graph}").get_agent_card()
        for interface in list(card.supported_interfaces):
            if interface.protocol_version != version:
                card.supported_interfaces.remove(interface)
        config = ClientConfig(httpx_client=http, streaming=streaming, polling=polling)
        async with ClientFactory(config).create(card) as client:
            yield client

    return agent


def text(said: str, **ids: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(said, role=Role.ROLE_USER, **ids))


def data(value: Any, **ids: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_data_message(value, role=Role.ROLE_USER, **ids))


async def send(client: Client, request: SendMessageRequest) -> Task:
    """The task that a message comes to."""
    [response] = [response async for response in client.send_message(request)]
    return response.task


def said(task: Task) -> list[tuple[str, str]]:
    return [(Role.Name(message.role), get_message_text(message)) for message in task.history]


async def test_a_message_is_answered(agent: Agent) -> None:
    async with agent("chat") as client:
        # WHEN something is said
        task = await send(client, text("hello"))
        # THEN there is the answer
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert [get_artifact_text(artifact) for artifact in task.artifacts] == ["You said: hello"]
        assert said(task) == [("ROLE_USER", "hello"), ("ROLE_AGENT", "You said: hello")]
        assert task.id.startswith(f"{task.context_id}:")
        # and the same when it is asked for
        assert await client.get_task(GetTaskRequest(id=task.id)) == task

        # WHEN the talk goes on
        after = await send(client, text("and now?", context_id=task.context_id))
        # THEN it is another task of the same context
        assert (after.context_id, after.id == task.id) == (task.context_id, False)
        assert [words for _, words in said(after)] == [
            "hello",
            "You said: hello",
            "and now?",
            "You said: and now?",
        ]
        # and the first one is still what it was
        assert await client.get_task(GetTaskRequest(id=task.id)) == task
        # and as much is told of the past as was asked for
        short = await client.get_task(GetTaskRequest(id=after.id, history_length=1))
        assert said(short) == [("ROLE_AGENT", "You said: and now?")]


async def test_what_is_said_is_told_as_it_is_said(agent: Agent) -> None:
    async with agent("chat", streaming=True) as client:
        parts = [part async for part in client.send_message(text("one two"))]
        kinds = [part.WhichOneof("payload") for part in parts]
        assert kinds[0] == "task"
        assert kinds[-2:] == ["artifact_update", "status_update"]
        heard = [get_message_text(part.status_update.status.message) for part in parts[1:-2]]
        assert heard == ["You", "You said:", "You said: one", "You said: one two"]
        assert get_artifact_text(parts[-2].artifact_update.artifact) == "You said: one two"
        assert parts[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


async def test_a_task_that_asks_goes_on_with_the_answer(api: Api, agent: Agent) -> None:
    async with agent("hitl") as client:
        # GIVEN a task that asks
        task = await send(client, data({"text": "it", "questions": 2}))
        assert task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        asked = task.status.message.parts[0].data.struct_value
        assert dict(asked["value"]) == {"question": "approve it?", "n": 0}
        # WHEN it is answered, THEN the same task asks on, and comes to its end
        answer = text("yes", task_id=task.id, context_id=task.context_id)
        again = await send(client, answer)
        assert (again.id, again.status.state) == (task.id, TaskState.TASK_STATE_INPUT_REQUIRED)
        # and an answer that is delivered twice is given once
        assert await send(client, answer) == again
        done = await send(client, data({"resume": {"ok": True}}, task_id=task.id))
        assert (done.id, done.status.state) == (task.id, TaskState.TASK_STATE_COMPLETED)
        values = done.artifacts[0].parts[0].data.struct_value
        assert (values["answers"][0], dict(values["answers"][1])) == ("yes", {"ok": True})
        assert await client.get_task(GetTaskRequest(id=task.id)) == done
        # and waits for no more
        with pytest.raises(UnsupportedOperationError, match="completed"):
            await send(client, text("yes", task_id=task.id))
        assert len(await api.database.fetch("select from slackwater.runs")) == 3


async def test_a_task_that_fails_says_why(agent: Agent) -> None:
    async with agent("fail") as client:
        task = await send(client, data({"text": "x"}))
        assert task.status.state == TaskState.TASK_STATE_FAILED
        assert get_message_text(task.status.message) == "ValueError: boom: x"
    async with agent("fail", streaming=True) as client:
        parts = [part async for part in client.send_message(data({"text": "x"}))]
        assert (
            parts[-1].status_update.status
            == (await client.get_task(GetTaskRequest(id=parts[0].task.id))).status
        )


async def test_a_task_is_cancelled_where_it_runs(api: Api, agent: Agent) -> None:
    async with agent("steps", polling=True) as client:
        # GIVEN a task that nobody waits for
        task = await send(client, data({"n": 100, "sleep": 0.1}))
        assert task.status.state == TaskState.TASK_STATE_SUBMITTED
        while (
            await client.get_task(GetTaskRequest(id=task.id))
        ).status.state != TaskState.TASK_STATE_WORKING:
            await asyncio.sleep(0.02)
        # WHEN it is cancelled, THEN it has stopped
        cancelled = await client.cancel_task(CancelTaskRequest(id=task.id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        [run] = await api.database.fetch("select status from slackwater.runs")
        assert run["status"] == "interrupted"
        # and cannot be stopped again
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(CancelTaskRequest(id=task.id))
        with pytest.raises(TaskNotFoundError):
            await client.cancel_task(CancelTaskRequest(id="x"))


async def test_a_task_can_be_listened_to_later(agent: Agent) -> None:
    async with agent("chat", streaming=True) as client, agent("chat", polling=True) as starter:
        request = text("one two three")
        request.message.parts.add().data.struct_value["delay"] = 0.2
        task = await send(starter, request)
        parts = [part async for part in client.subscribe(SubscribeToTaskRequest(id=task.id))]
        assert parts[0].task.id == task.id
        assert get_message_text(parts[-3].status_update.status.message) == "You said: one two three"
        assert parts[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
        with pytest.raises(UnsupportedOperationError):
            [part async for part in client.subscribe(SubscribeToTaskRequest(id=task.id))]


async def test_a_message_that_is_delivered_twice_is_one_task(api: Api, agent: Agent) -> None:
    async with agent("chat") as client, agent("chat", streaming=True) as streaming:
        message = text("hello")
        first, second = await asyncio.gather(send(client, message), send(client, message))
        assert first.id == second.id
        assert await send(client, message) == await send(client, message)
        parts = [part async for part in streaming.send_message(message)]
        assert [part.task.id for part in parts] == [first.id]
        assert len(await api.database.fetch("select from slackwater.runs")) == 1
        # What has the same id and says something else is something else: many a client counts from one.
        other = text("hello!")
        other.message.message_id = message.message.message_id
        assert (await send(client, other)).id != first.id


async def test_tasks_are_listed(api: Api, agent: Agent, version: str) -> None:
    if version == "0.3":
        return  # which has no list
    async with agent("hitl") as client:
        tasks = [await send(client, data({"text": str(n)})) for n in range(3)]
        await send(client, text("yes", task_id=tasks[0].id))
        await api.client().post("/runs/wait", json={"assistant_id": "hitl", "input": {"text": "hidden"}})

        async def listed(**query: Any) -> Any:
            return await client.list_tasks(ListTasksRequest(**query))

        # The newest change first, and each task once
        page = await listed(page_size=2)
        assert [task.id for task in page.tasks] == [tasks[0].id, tasks[2].id]
        assert (page.total_size, page.page_size) == (3, 2)
        page = await listed(page_size=2, page_token=page.next_page_token)
        assert ([task.id for task in page.tasks], page.next_page_token) == ([tasks[1].id], "")
        waiting = await listed(status=TaskState.TASK_STATE_INPUT_REQUIRED)
        assert [task.id for task in waiting.tasks] == [tasks[2].id, tasks[1].id]
        mine = await listed(context_id=tasks[0].context_id, include_artifacts=True)
        assert list(mine.tasks) == [await client.get_task(GetTaskRequest(id=tasks[0].id))]
        since = ListTasksRequest(status_timestamp_after=tasks[2].status.timestamp)
        assert [task.id for task in (await client.list_tasks(since)).tasks] == [tasks[0].id]


async def test_files_reach_the_model(agent: Agent) -> None:
    async with agent("chat") as client:
        request = text("look")
        request.message.parts.add(url="http://x/y.png", media_type="image/png", filename="y.png")
        request.message.parts.add(raw=b"a", media_type="text/plain")
        task = await send(client, request)
        parts = list(task.history[0].parts)
        assert (parts[0].text, parts[1].url, parts[1].filename, parts[2].raw) == (
            "look",
            "http://x/y.png",
            "y.png",
            b"a",
        )


async def test_what_is_anothers_is_not_there(serve: Any, agent: Agent) -> None:
    async with serve(names=("alice", "bob")) as api:
        async with (
            agent("chat", of=api, name="alice") as hers,
            agent("chat", of=api, name="bob") as his,
            agent("chat", of=api, name="bob", streaming=True) as streaming,
        ):
            task = await send(hers, text("secret"))
            for ask in (
                lambda: his.get_task(GetTaskRequest(id=task.id)),
                lambda: his.cancel_task(CancelTaskRequest(id=task.id)),
                lambda: send(his, text("x", task_id=task.id)),
                lambda: anext(streaming.subscribe(SubscribeToTaskRequest(id=task.id))),
            ):
                with pytest.raises(TaskNotFoundError):
                    await ask()
            with pytest.raises(Exception, match="Thread or assistant not found"):
                await send(his, text("x", context_id=task.context_id))
            # The same message of somebody else is another task.
            message = text("hello")
            assert (await send(his, message)).id != (await send(hers, message)).id
        http = api.client("alice")
        mine = (await http.post("/assistants", json={"graph_id": "chat"})).json()["assistant_id"]
        assert (await http.get(f"/a2a/{mine}")).json()["securitySchemes"]["apiKey"]["name"] == "x-api-key"
        for path in (f"/a2a/{mine}", f"/.well-known/agent-card.json?assistant_id={mine}"):
            assert (await http.get(path)).status_code == 200
            assert (await api.client("bob").get(path)).status_code == 404
        # A task belongs to its assistant.
        query = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": task.id}}
        assert (await http.post(f"/a2a/{mine}", json=query)).json()["error"]["code"] == -32001


async def test_the_card_is_where_it_is_looked_for(http: httpx.AsyncClient, version: str) -> None:
    found = (await http.post("/assistants/search", json={"graph_id": "echo"})).json()[0]
    paths = [
        f"/a2a/{found['assistant_id']}",
        f"/a2a/{found['assistant_id']}/.well-known/agent-card.json",
        f"/a2a/{found['assistant_id']}/.well-known/agent.json",
        f"/.well-known/agent-card.json?assistant_id={found['assistant_id']}",
        "/a2a/echo",
    ]
    cards = [(await http.get(path)).json() for path in paths]
    assert cards == [cards[0]] * len(paths)
    assert cards[0]["url"] == f"http://127.0.0.1:2024/a2a/{found['assistant_id']}"
    assert version in [interface["protocolVersion"] for interface in cards[0]["supportedInterfaces"]]
    assert cards[0]["defaultInputModes"] == ["application/json"]
    assert (await http.get("/.well-known/agent-card.json")).status_code == 400
    assert (await http.get(f"/a2a/{uuid4()}")).status_code == 404
    extended = {"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard"}
    assert (await http.post(f"/a2a/{found['assistant_id']}", json=extended)).json()["result"] == cards[0]


async def test_a_wrong_call_leaves_nothing_behind(api: Api, version: str) -> None:
    http = api.client()
    method = {"1.0": "SendMessage", "0.3": "message/send"}[version]

    def message(**fields: Any) -> dict[str, Any]:
        return {"message": {"messageId": "m", "role": "user", "parts": [{"text": "x"}], **fields}}

    async def refusal(agent: str, method: str, params: Any, **headers: str) -> tuple[int, str]:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await http.post(f"/a2a/{agent}", json=call, headers=headers)
        assert (answer.status_code, answer.json()["id"]) == (200, 1)
        error = answer.json()["error"]
        return error["code"], error["message"]

    assert await refusal("chat", "zip", {}) == (-32601, "Method not found: zip")
    assert await refusal("chat", method, {}) == (-32602, "params.message: Field required")
    assert (await refusal("chat", method, message(parts=[])))[0] == -32602
    assert "exactly one of" in (await refusal("chat", method, message(parts=[{"text": "x", "data": 1}])))[1]
    assert (
        "exactly one of" in (await refusal("chat", method, message(parts=[{"kind": "file", "file": {}}])))[1]
    )
    assert await refusal("chat", method, message(contextId="abc")) == (
        -32602,
        "Invalid context ID: must be a UUID",
    )
    assert await refusal("chat", method, message(taskId="abc")) == (-32001, "Task not found: abc")
    assert (await refusal("echo", method, message()))[1].startswith("The graph's input has no messages")
    assert "data must be an object" in (await refusal("chat", method, message(parts=[{"data": 7}])))[1]
    push = {**message(), "configuration": {"pushNotificationConfig": {"url": "http://x"}}}
    assert (await refusal("chat", method, push))[0] == -32003
    assert (await refusal("chat", "tasks/pushNotificationConfig/set", {}))[0] == -32003
    assert (await refusal("chat", method, message(), **{"A2A-Version": "7.0"}))[0] == -32009
    assert (await refusal("chat", "message/stream", message(), accept="application/json"))[0] == -32600
    assert (await refusal("chat", "ListTasks", {"status": "asleep"}))[1].startswith(
        "status: 'asleep' is not one of"
    )
    assert (await refusal("chat", "ListTasks", {"pageToken": "x"}))[0] == -32602
    assert (await refusal("chat", "ListTasks", {"statusTimestampAfter": "x"}))[0] == -32602
    for body, code in ((b"{", -32700), (b"[]", -32600)):
        answer = await http.post("/a2a/chat", content=body)
        assert (answer.json()["id"], answer.json()["error"]["code"]) == (None, code)
    assert (await http.post("/a2a/nope", json={})).status_code == 422
    assert (await http.post(f"/a2a/{uuid4()}", json={})).status_code == 404
    scope = {"LangGraph-A2A-History-Scope": "all"}
    assert (await http.post("/a2a/chat", json={}, headers=scope)).status_code == 422
    for table in ("runs", "threads", "idempotency_keys"):
        assert await api.database.fetch(f"select from slackwater.{table}") == []


async def test_the_history_of_a_task_alone(api: Api, agent: Agent, version: str) -> None:
    async with agent("chat") as client:
        first = await send(client, text("hello"))
        task = await send(client, text("and now?", context_id=first.context_id))
    call = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": task.id}}
    scope = {"LangGraph-A2A-History-Scope": "task"}
    answer = (await api.client().post("/a2a/chat", json=call, headers=scope)).json()["result"]
    assert [message["parts"] for message in answer["history"]] == [
        [{"text": "and now?"}],
        [{"text": "You said: and now?"}],
    ]
