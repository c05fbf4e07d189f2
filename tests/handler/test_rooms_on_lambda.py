"""Memory, skills, agents and the profile through events, with files in S3; and what becomes of an update of the memory when time is over."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from slackwater.emulator.environment import PendingInvocation
from tests.handler.scene import Scene, asked
from tests.support.amazon import object_store
from tests.support.emulator import LocalEnvironment, Reply
from tests.support.model import PROVIDER, PROVIDER_FILE, StubModel, stub_model

GRAPH = """
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

from slackwater.memory import aprompt, aremember, aupdate
from slackwater.skills import aread_file, askills


class Said(TypedDict, total=False):
    messages: list[Any]
    agent: Any
    told: str
    skills: list[str]
    file: str


async def talk(state: Said, runtime: Runtime) -> Said:
    agent = runtime.context.get("agent") or {}
    told, skills = await aprompt(), await askills(agent.get("skills"))
    if state.get("messages"):
        await aremember("Has said something", confidence=0.8)
        await aupdate(state["messages"])
    file = (await aread_file("report", "run.py")).decode() if skills else ""
    return {"agent": agent, "told": told, "skills": [skill["name"] for skill in skills], "file": file}


lead_agent = StateGraph(Said).add_node(talk).add_edge(START, "talk").compile()
"""
SKILL = "---\nname: report\ndescription: Writes the report.\n---\nBegin with the figures.\n"
AGENT = {"name": "helper", "description": None, "model": "fast", "tool_groups": None, "soul": "Be brief."}
SAID = [{"role": "user", "content": "I am Ann, I build bridges"}]
PROPOSED = json.dumps({"newFacts": [{"content": "Is called Ann", "category": "context", "confidence": 0.9}]})
_UPDATES = "select attempts, claimed_until from slackwater.memory_updates"
_DUE = "update slackwater.memory_updates set due_at = now(), claimed_until = null returning 1"
SECONDS = 10
"""How long an invocation may take that is cut."""


def project(folder: Path, model: StubModel) -> Path:
    folder.mkdir()
    (folder / "talking.py").write_text(GRAPH)
    (folder / PROVIDER_FILE).write_text(PROVIDER)
    models = [{"name": "fast", "model": "perplexity:stub", "args": {"base_url": model.url}}]
    gateway = {"models": models, "memory": {"debounce_seconds": 1}, "agents": {"enabled": True}}
    graphs = {"lead_agent": "./talking.py:lead_agent"}
    content = {"dependencies": ["."], "graphs": graphs, "gateway": gateway}
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


async def test_they_are_the_same_through_events_and_an_update_outlives_what_is_cut(
    scene: Scene, tmp_path: Path
) -> None:
    async with stub_model() as model:
        with object_store() as store:
            env = {
                **store,
                "SLACKWATER_GATEWAY": "true",
                "SLACKWATER_PROJECT": str(project(tmp_path / "p", model)),
            }
            early = {
                "SLACKWATER_GRACE_SECONDS": "5",
                "SLACKWATER_DRAIN_RESERVE_SECONDS": "4",
            }  # the machine may be busy
            one, doomed = await asyncio.gather(
                scene.environment(60, {**env, "SLACKWATER_DRAIN_RESERVE_SECONDS": "0.5"}),
                scene.environment(SECONDS, {**env, **early}),
            )
            await says_who_one_is(scene, one)

            # WHEN what was said is due, and the time of an invocation is over before the model has answered
            model.says(None)
            await scene.until(lambda: scene.watcher.query(f"{_UPDATES} where due_at < clock_timestamp()"))
            cut = await asking(doomed, model, 1)
            await has_skills(scene, one)  # meanwhile
            assert (await cut.outcome).error is None, doomed.log()
            await cut.done
            # THEN it is anybody's at once, and has cost no attempt
            assert updates(scene) == [(0, False)]

            # WHEN the next one is killed, THEN its claim has to end first
            work = await asking(doomed, model, 2)
            await doomed.kill()
            work.outcome.cancel()
            assert updates(scene) == [(1, True)]
            assert (await one.invoke({"task": "sweep"})).error is None
            assert len(model.asked) == 2
            scene.watcher.query(_DUE)

            # AND a model that takes longer than the moment before a freeze gets the time that the invocation has
            answer = asyncio.get_running_loop().create_future()
            model.says(answer)
            work = await asking(one, model, 3)
            assert not (await asyncio.wait({work.done}, timeout=1.5))[0]  # a pause would have broken it off
            answer.set_result(PROPOSED)
            assert (await work.outcome).error is None, one.log()
            await work.done
            assert updates(scene) == []
            assert await facts_of(scene, one) == ["Builds bridges", "Has said something", "Is called Ann"]

            # WHEN the environment is taken away while the model is asked, THEN it is anybody's, too
            await talk(scene, one, messages=SAID)
            model.says(None)
            scene.watcher.query(_DUE)
            work = await asking(one, model, 4)
            await one.terminate()
            work.outcome.cancel()
            assert updates(scene) == [(0, False)]


async def says_who_one_is(scene: Scene, environment: LocalEnvironment) -> None:
    """Memory, profile and agents; and a run of that agent, which is told of all of it, and tells the memory."""
    # Bodies come as text, or as base64, as it pleases the front door
    added = await in_base64(environment, "POST", "/api/memory/facts", {"content": "Builds bridges"})
    [fact] = added.body["facts"]
    path = f"/api/memory/facts/{fact['id']}"
    changed = await scene.ask(environment, "PATCH", path, {"confidence": 1})
    assert changed["facts"] == [{**fact, "confidence": 1}]
    exported = await scene.ask(environment, "GET", "/api/memory/export")
    assert (await scene.ask(environment, "DELETE", path))["facts"] == []
    imported = await in_base64(environment, "POST", "/api/memory/import", exported)
    assert imported.body["facts"] == changed["facts"]
    assert (await environment.invoke(asked("DELETE", "/api/memory/facts/none"))).status == 404
    assert await scene.ask(environment, "PUT", "/api/user-profile", {"content": "I am Ann."}) == {
        "content": "I am Ann."
    }
    made = await environment.invoke(asked("POST", "/api/agents", {**AGENT, "name": "Helper"}))
    assert (made.status, made.body) == (201, {**AGENT, "skills": None})
    values = await talk(scene, environment, messages=SAID)
    assert values["agent"] == {**AGENT, "skills": None, "user_profile": "I am Ann."}
    assert (values["told"], values["skills"]) == ("- [context] Builds bridges", [])


async def has_skills(scene: Scene, environment: LocalEnvironment) -> None:
    """A skill, installed from an archive that came as bytes and is in S3, and read by a run."""
    thread, file = str(uuid4()), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("report/SKILL.md", SKILL)
        archive.writestr("report/run.py", "print(1)")
    event = asked("POST", f"/api/threads/{thread}/uploads")
    event["headers"]["content-type"] = "multipart/form-data; boundary=b"
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="report.skill"\r\n\r\n'
    event |= {
        "body": base64.b64encode(head + file.getvalue() + b"\r\n--b--\r\n").decode(),
        "isBase64Encoded": True,
    }
    sent = await environment.invoke(event)
    assert (sent.status, len(scene.watcher.query("select key from slackwater.blobs"))) == (200, 1)
    virtual = sent.body["files"][0]["virtual_path"]
    given = {"thread_id": thread, "path": virtual}
    installed = await scene.ask(environment, "POST", "/api/skills/install", given)
    assert installed["skill_name"] == "report"
    assert (await environment.invoke(asked("POST", "/api/skills/install", given))).status == 409
    got = await environment.invoke(asked("GET", "/api/skills/custom/report"))
    assert (got.body["content"], "etag" in got.payload["headers"]) == (SKILL, True)
    values = await talk(scene, environment)
    assert (values["skills"], values["file"]) == (["report"], "print(1)")
    await scene.ask(environment, "PUT", "/api/skills/report", {"enabled": False})
    assert (await talk(scene, environment))["skills"] == []


async def asking(environment: LocalEnvironment, model: StubModel, count: int) -> PendingInvocation:
    """A sweep that has asked the model, which makes so many times. Those before may have had time to import it, and no more."""
    async with asyncio.timeout(60):
        while True:
            work = environment.begin({"task": "sweep"})
            while not work.done.done():
                if len(model.asked) >= count:
                    return work
                await asyncio.sleep(0.01)


async def talk(scene: Scene, environment: LocalEnvironment, **input_: Any) -> dict[str, Any]:
    body = {"assistant_id": "lead_agent", "input": input_, "context": {"agent_name": "Helper"}}
    values: dict[str, Any] = await scene.ask(environment, "POST", "/api/runs/wait", body)
    return values


async def in_base64(environment: LocalEnvironment, method: str, path: str, body: object) -> Reply:
    event = asked(method, path)
    event |= {"body": base64.b64encode(json.dumps(body).encode()).decode(), "isBase64Encoded": True}
    reply = await environment.invoke(event)
    assert reply.status == 200, reply
    return reply


def updates(scene: Scene) -> list[tuple[int, bool]]:
    """The attempts of each, and whether somebody has claimed it."""
    return [(row["attempts"], row["claimed_until"] is not None) for row in scene.watcher.query(_UPDATES)]


async def facts_of(scene: Scene, environment: LocalEnvironment) -> list[str]:
    memory = await scene.ask(environment, "GET", "/api/memory")
    return [fact["content"] for fact in memory["facts"]]
