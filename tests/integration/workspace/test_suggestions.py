"""POST /api/threads/{id}/suggestions over HTTP, with a model behind a real API (1.23, Z4, 4.7)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from slackwater.identity.keys import new_key
from tests.support.model import StubModel, stub_model
from tests.support.server import fleet_of

GRAPHS = Path(__file__).parents[2] / "graphs"
SAID = [{"role": "user", "content": "Will it rain?"}, {"role": "assistant", "content": "Yes."}]


def project(folder: Path, model: StubModel, **gateway: Any) -> Path:
    """A project whose models are that one, by several names."""
    folder.mkdir()
    args = {"api_key": "$MODEL_KEY", "base_url": model.url, "max_retries": 0}
    models = [
        {"name": "fast", "model": "openai:stub-fast", "args": args},
        {"name": "slow", "model": "openai:stub-slow", "args": args},
        {"name": "broken", "model": "nobody:has-it", "args": {}},
    ]
    content = {
        "dependencies": [str(GRAPHS)],
        "graphs": {"echo": f"{GRAPHS}/graphs.py:echo"},
        "gateway": {"models": models, **gateway},
    }
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


async def test_what_a_user_may_ask_next(database_uri: str, tmp_path: Path) -> None:
    """One server for all of it: what is suggested, what is not, and a stop in the middle."""
    alice, alices = new_key("alice")
    bob, bobs = new_key("bob")
    async with stub_model() as model:
        env = {
            "SLACKWATER_GATEWAY": "true",
            "SLACKWATER_API_KEYS": ",".join(f"{key.name}:{key.sha256}" for key in (alices, bobs)),
            "MODEL_KEY": "sk-test",
        }
        folder = project(tmp_path / "project", model)
        async with (
            fleet_of(database_uri, tmp_path, folder, env) as fleet,
            httpx.AsyncClient(timeout=30, headers={"x-api-key": alice}) as client,
        ):
            (server,) = await fleet.start()
            thread = uuid4()

            def url(of: object = thread) -> str:
                return f"{server.url}/api/threads/{of}/suggestions"

            async def suggested(**body: Any) -> list[str]:
                answer = await client.post(url(), json={"messages": SAID, **body})
                assert answer.status_code == 200, answer.text
                assert answer.json().keys() == {"suggestions"}
                found: list[str] = answer.json()["suggestions"]
                return found

            # WHEN there is no thread yet, THEN there are suggestions all the same, of the first model, and no thread is made
            model.says('<think>hm</think>```json\n["When?", "How\\nmuch?", "Why?", "Where?"]\n```')
            assert await suggested() == ["When?", "How much?", "Why?"]
            assert model.asked[-1]["model"] == "stub-fast"
            assert "User: Will it rain?\n\nAssistant: Yes." in model.asked[-1]["messages"][-1]["content"]
            assert (await client.get(f"{server.url}/threads/{thread}")).status_code == 404

            # n, and the model of the conversation
            assert await suggested(n=1, model_name="slow") == ["When?"]
            assert model.asked[-1]["model"] == "stub-slow"
            for wrong in ({"n": 0}, {"n": 6}, {"messages": "x"}):
                answer = await client.post(url(), json={"messages": SAID, **wrong})
                assert answer.status_code == 422

            # Without anything said, and with a model that is not there, nobody is asked
            asked = len(model.asked)
            assert await suggested(messages=[]) == []
            assert (
                await suggested(messages=[{"role": "user", "content": [{"type": "image_url", "x": 1}]}]) == []
            )
            assert await suggested(model_name="none") == []
            assert len(model.asked) == asked

            # What goes wrong is no error of the page's
            assert await suggested(model_name="broken") == []
            model.says(500)
            assert await suggested() == []
            model.says("I would rather not.")
            assert await suggested() == []
            # Nor is an answer lost because its tokens cannot be counted
            model.says('["Still?"]')
            model.name = "no text\0"
            assert await suggested() == ["Still?"]
            model.name = "stub"

            # WHEN the thread is another's, THEN it is not there, and nobody is asked
            asked = len(model.asked)
            made = await client.post(
                f"{server.url}/threads", json={"thread_id": str(thread)}, headers={"x-api-key": bob}
            )
            assert made.status_code == 200
            answer = await client.post(url(), json={"messages": SAID})
            assert answer.status_code == 404
            assert len(model.asked) == asked
            # AND one's own is
            model.says('["And you?"]')
            answer = await client.post(url(), json={"messages": SAID}, headers={"x-api-key": bob})
            assert answer.json() == {"suggestions": ["And you?"]}

            # AND what it cost is counted for the owner, in no run
            used = (
                await client.get(f"{server.url}/api/threads/{thread}/token-usage", headers={"x-api-key": bob})
            ).json()
            assert (used["total_input_tokens"], used["total_output_tokens"], used["total_runs"]) == (11, 7, 0)

            # WHEN the process is stopped while the model thinks, THEN nothing waits for the model
            model.says(None)
            asking = asyncio.create_task(client.post(url(uuid4()), json={"messages": SAID}))
            await model.until_asked(len(model.asked) + 1)
            server.sigterm()
            assert await server.wait() == 0
            assert (await asking).status_code == 503
        # A key is in no log.
        assert "sk-test" not in server.err.read_text()
    assert fleet.complaints == []


async def test_they_can_be_switched_off_and_written_by_one_model(database_uri: str, tmp_path: Path) -> None:
    async with stub_model() as model:
        model.says('["a"]')
        env = {"SLACKWATER_GATEWAY": "true", "MODEL_KEY": "sk-test"}
        off = project(tmp_path / "off", model, suggestions={"enabled": False})
        one = project(tmp_path / "one", model, suggestions={"model": "slow"})
        async with (
            fleet_of(database_uri, tmp_path, off, env) as fleet,
            httpx.AsyncClient(timeout=30) as client,
        ):
            servers = [fleet.launch(), fleet.launch(project=one)]
            await asyncio.gather(*(server.until_ready() for server in servers))
            found = [
                await client.post(
                    f"{server.url}/api/threads/{uuid4()}/suggestions",
                    json={"messages": SAID, "model_name": "fast"},
                )
                for server in servers
            ]
            assert [answer.json() for answer in found] == [{"suggestions": []}, {"suggestions": ["a"]}]
            assert [asked["model"] for asked in model.asked] == ["stub-slow"]


async def test_a_variable_that_is_missing_stops_the_start(database_uri: str, tmp_path: Path) -> None:
    folder = project(tmp_path / "project", StubModel())
    async with fleet_of(database_uri, tmp_path, folder, {"SLACKWATER_GATEWAY": "true"}) as fleet:
        server = fleet.launch()
        assert await server.wait(60) == 2
        assert "fast: the environment has no MODEL_KEY: set it, or change args." in server.err.read_text()
