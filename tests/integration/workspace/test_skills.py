"""Skills over HTTP: public and custom ones, on and off, installed, edited, deleted and restored (1.20, Z1, section 5)."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from slackwater.errors import NoSkills
from slackwater.owners.erase import erase
from slackwater.skills import skills
from tests.support.api import Api
from tests.support.model import PROVIDER, PROVIDER_FILE, StubModel, stub_model
from tests.support.server import fleet_of

GRAPH = """
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

from slackwater.errors import UnknownSkill
from slackwater.skills import aread, read_file, skills


class Said(TypedDict, total=False):
    wanted: Any
    name: str
    path: str
    skills: Any
    text: Any
    file: Any


def look(state: Said) -> Said:
    try:
        file = read_file(state["name"], state["path"]).decode()
    except UnknownSkill:
        file = None
    return {"skills": [skill["name"] for skill in skills(state.get("wanted"))], "file": file}


async def read(state: Said) -> Said:
    try:
        return {"text": await aread(state["name"])}
    except UnknownSkill:
        return {"text": None}


reader = StateGraph(Said).add_sequence([look, read]).add_edge(START, "look").compile()
"""


def document(name: str = "report", text: str = "Begin.") -> str:
    return f"---\nname: {name}\ndescription: About {name}.\nlicense: MIT\n---\n{text}\n"


def packed(content: str, **files: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in {"report/SKILL.md": content, **files}.items():
            archive.writestr(name, member)
    return file.getvalue()


def project(folder: Path, model: StubModel | None = None) -> Path:
    """With two public skills, and that model as the scanner."""
    for name in ("alpha", "beta"):
        (folder / "skills" / "public" / name).mkdir(parents=True)
        (folder / "skills" / "public" / name / "SKILL.md").write_text(document(name))
    gateway: dict[str, Any] = {"skills": "./skills"}
    if model is not None:
        (folder / PROVIDER_FILE).write_text(PROVIDER)
        gateway |= {
            "models": [{"name": "judge", "model": "perplexity:stub", "args": {"base_url": model.url}}],
            "skills_scanner": "judge",
        }
    content = {"dependencies": ["."], "graphs": {"reader": "./agent.py:reader"}, "gateway": gateway}
    (folder / "agent.py").write_text(GRAPH)
    (folder / "skills" / "public" / "alpha" / "more.txt").write_text("More.")
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
async def api(serve: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Api]:
    async with serve(
        gateway=True, blobs=f"file:{tmp_path}/blobs", project=project(tmp_path), names=("alice", "bob")
    ) as api:
        yield api


async def install(client: httpx.AsyncClient, content: bytes, name: str = "a.skill") -> httpx.Response:
    """From the uploads of a thread."""
    thread = str(uuid4())
    sent = await client.post(f"/api/threads/{thread}/uploads", files=[("files", (name, content))])
    assert sent.status_code == 200, sent.text
    body = {"thread_id": thread, "path": f"/mnt/user-data/uploads/{name}"}
    return await client.post("/api/skills/install", json=body)


async def states(client: httpx.AsyncClient) -> dict[str, bool]:
    listed = (await client.get("/api/skills")).json()["skills"]
    return {skill["name"]: skill["enabled"] for skill in listed}


async def test_which_skills_there_are_and_which_are_on(api: Api) -> None:
    """1.20; 331c949b9: what one owner does to theirs, no other sees."""
    alice, bob = api.client("alice"), api.client("bob")
    assert (await alice.get("/api/skills")).json()["skills"][0] == {
        "name": "alpha",
        "description": "About alpha.",
        "license": "MIT",
        "category": "public",
        "enabled": True,
    }
    # WHEN one switches a public skill off, THEN it is off for them alone
    put = await alice.put("/api/skills/alpha", json={"enabled": False})
    assert (put.status_code, put.json()["enabled"]) == (200, False)
    assert (await alice.get("/api/skills/alpha")).json() == put.json()
    assert await states(alice) == {"alpha": False, "beta": True}
    assert await states(bob) == {"alpha": True, "beta": True}
    # WHEN an administrator switches it off for everybody, THEN it is off for who has not said
    for name in ("alpha", "beta"):
        put = await alice.put(f"/api/skills/{name}", json={"enabled": False, "everybody": True})
        assert put.status_code == 200
    await bob.put("/api/skills/beta", json={"enabled": True})
    assert await states(bob) == {"alpha": False, "beta": True}
    told = await api.database.fetch("select actor, subject, detail from slackwater.audit order by audit_id")
    assert [(row["actor"], row["subject"], row["detail"]) for row in told] == [
        ("alice", "alpha", "off"),
        ("alice", "beta", "off"),
    ]
    # What is not there, and what makes no sense
    for name in ("gamma", "Alpha", "a%0Ab", "install"):
        answer = await alice.put(f"/api/skills/{name}", json={"enabled": True})
        assert answer.status_code in (404, 405), name
        assert "\n" not in answer.json()["detail"]
    assert (await alice.get("/api/skills/gamma")).json() == {"detail": "Skill 'gamma' not found"}
    assert (await alice.put("/api/skills/alpha", json={"enabled": "yes"})).status_code == 422
    everybody = {"enabled": True, "everybody": True}
    assert (await alice.put("/api/skills/gamma", json=everybody)).status_code == 404

    # WHEN one installs a skill with the name of a public one, THEN it takes its place, for them alone
    assert (await install(alice, packed(document("alpha", "Mine.")))).json()["skill_name"] == "alpha"
    assert await states(alice) == {"alpha": True, "beta": False}
    assert (await alice.get("/api/skills/alpha")).json()["category"] == "custom"
    assert (await bob.get("/api/skills/alpha")).json()["category"] == "public"


async def test_a_skill_is_edited_rolled_back_deleted_and_restored(api: Api) -> None:
    """Z1, without a scanner."""
    alice, bob = api.client("alice"), api.client("bob")
    first = document(text="First.")
    installed = await install(alice, packed(first, **{"report/scripts/run.py": "print(1)"}))
    assert (installed.status_code, installed.json()) == (
        200,
        {"success": True, "skill_name": "report", "message": "Skill 'report' installed successfully"},
    )
    again = await install(alice, packed(first))
    assert (again.status_code, again.json()) == (409, {"detail": "Skill 'report' already exists"})
    path = "/api/skills/custom/report"
    got = await alice.get(path)
    shown = {
        "name": "report",
        "description": "About report.",
        "license": "MIT",
        "category": "custom",
        "enabled": True,
    }
    assert got.json() == {**shown, "content": first}
    assert (await alice.get("/api/skills/custom")).json() == {"skills": [shown]}
    (file,) = await api.database.fetch("select path, content from slackwater.skill_files")
    assert (file["path"], bytes(file["content"])) == ("scripts/run.py", b"print(1)")

    # WHEN it is edited, THEN the history has both texts
    second = document(text="Second.")
    edited = await alice.put(path, json={"content": second})
    assert (edited.status_code, edited.json()["content"]) == (200, second)
    # AND who has read what was before is told
    old, new = got.headers["etag"], edited.headers["etag"]
    for late in (
        await alice.put(path, json={"content": first}, headers={"if-match": old}),
        await alice.delete(path, headers={"if-match": old}),
    ):
        assert late.status_code == 409
    for wrong in ("x", document("other"), document() + "a" * 65_536):
        assert (await alice.put(path, json={"content": wrong})).status_code == 400
    history = (await alice.get(f"{path}/history")).json()["history"]
    assert history[-1].pop("ts")
    assert history[-1] == {
        "action": "human_edit",
        "author": "human",
        "thread_id": None,
        "file_path": "SKILL.md",
        "prev_content": first,
        "new_content": second,
        "scanner": {"decision": "allow", "reason": "No scanner is configured."},
    }
    # WHEN it is rolled back, THEN it is what it was before that change
    assert (await alice.post(f"{path}/rollback", json={})).json()["content"] == first
    for index, detail in ((3, "out of range"), (-4, "out of range"), (0, "no previous content")):
        answer = await alice.post(f"{path}/rollback", json={"history_index": index})
        assert (answer.status_code, detail in answer.json()["detail"]) == (400, True), index

    # WHEN it is deleted, THEN its history is there, and brings it back
    await alice.put("/api/skills/report", json={"enabled": False})
    etag = (await alice.get(path)).headers["etag"]
    assert etag != new
    assert (await alice.delete(path, headers={"if-match": etag})).json() == {"success": True}
    assert (await alice.delete(path)).json() == {"detail": "Custom skill 'report' not found"}
    assert (await alice.get(path)).status_code == (await alice.get("/api/skills/report")).status_code == 404
    assert (await alice.put(path, json={"content": first})).status_code == 404
    actions = [entry["action"] for entry in (await alice.get(f"{path}/history")).json()["history"]]
    assert actions == ["install", "human_edit", "rollback", "human_delete"]
    restored = await alice.post(f"{path}/rollback", json={"history_index": -1})
    assert (restored.status_code, restored.json()["content"], restored.json()["enabled"]) == (
        200,
        first,
        True,
    )
    assert (await alice.get(path)).headers["etag"] not in (old, new, etag)

    # Another's is not there
    for answer in (
        await bob.get(path),
        await bob.put(path, json={"content": first}),
        await bob.delete(path),
        await bob.get(f"{path}/history"),
        await bob.post(f"{path}/rollback", json={}),
        await bob.get("/api/skills/report"),
        await bob.put("/api/skills/report", json={"enabled": True}),
    ):
        assert answer.status_code == 404, answer.url
    # A public one is nobody's to change
    assert (await alice.put("/api/skills/custom/beta", json={"content": document("beta")})).status_code == 400
    assert (await alice.get("/api/skills/custom/beta")).status_code == 404

    # WHEN the owner is erased, THEN nothing of it is left
    await erase(api.database, "alice")
    for table in ("skills", "skill_files", "skill_history", "skill_switches"):
        assert await api.database.fetch(f"select 1 from slackwater.{table} where owner = 'alice'") == []


async def test_a_graph_reads_the_skills_of_its_owner(api: Api) -> None:
    """The enabled ones, public and custom, in a `def` and in an `async def`; nothing outside of their folders."""
    alice, bob = api.client("alice"), api.client("bob")
    await install(alice, packed(document(), **{"report/scripts/run.py": "print(1)"}))
    await alice.put("/api/skills/beta", json={"enabled": False})

    async def told(client: httpx.AsyncClient, name: str, path: str, wanted: Any = None) -> list[Any]:
        body = {"assistant_id": "reader", "input": {"name": name, "path": path, "wanted": wanted}}
        values = (await client.post("/runs/wait", json=body)).json()
        return [values["skills"], values["text"], values["file"]]

    assert await told(alice, "report", "scripts/run.py") == [["alpha", "report"], document(), "print(1)"]
    assert await told(alice, "alpha", "more.txt", ["alpha", "beta"]) == [
        ["alpha"],
        document("alpha"),
        "More.",
    ]
    assert await told(alice, "beta", "SKILL.md", []) == [[], None, None]
    assert await told(bob, "report", "scripts/run.py") == [["alpha", "beta"], None, None]
    for path in ("../beta/SKILL.md", "/etc/passwd", "", ".", "none", "a\u0000b"):
        assert (await told(alice, "alpha", path))[2] is None, path
    with pytest.raises(NoSkills):
        skills()


async def test_what_cannot_be_installed(api: Api) -> None:
    """1.20: 404, 400 and 403."""
    alice, bob = api.client("alice"), api.client("bob")
    for content, status in (
        (b"no archive", 400),
        (packed("no skill"), 400),
        (packed(document(), **{"report/../../x": ""}), 400),
        (packed(document(), **{"report/more/SKILL.md": ""}), 400),
    ):
        answer = await install(alice, content)
        assert (answer.status_code, isinstance(answer.json()["detail"], str)) == (status, True)
    assert (await install(alice, packed(document()), "a.zip")).status_code == 400
    thread = str(uuid4())
    sent = [("files", ("a.skill", packed(document())))]
    await alice.post(f"/api/threads/{thread}/uploads", files=sent)
    for path, status in (
        ("/mnt/user-data/uploads/b.skill", 404),
        ("/etc/passwd", 400),
        ("/mnt/user-data/../a.skill", 403),
    ):
        body = {"thread_id": thread, "path": path}
        assert (await alice.post("/api/skills/install", json=body)).status_code == status, path
    body = {"thread_id": thread, "path": "/mnt/user-data/uploads/a.skill"}
    assert (await bob.post("/api/skills/install", json=body)).status_code == 404
    assert (await alice.post("/api/skills/install", json={**body, "thread_id": "x"})).status_code == 422
    assert (await alice.get("/api/skills/custom")).json() == {"skills": []}
    assert await api.database.fetch("select 1 from slackwater.skill_history") == []


async def test_whoever_edits_at_once_is_told_or_is_in_the_history(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """Two processes: no edit that was answered with 200 is lost, and each knows what it has replaced."""
    folder = project(tmp_path)
    async with (
        serve(gateway=True, blobs=f"file:{tmp_path}/blobs", project=folder) as one,
        serve(gateway=True, blobs=f"file:{tmp_path}/blobs", project=folder) as other,
    ):
        clients = [one.client(), other.client()]
        both = await asyncio.gather(*(install(client, packed(document())) for client in clients))
        assert sorted(answer.status_code for answer in both) == [200, 409]
        path = "/api/skills/custom/report"
        texts = [document(text=f"Text {number}.") for number in range(12)]
        answers = await asyncio.gather(
            *(clients[number % 2].put(path, json={"content": text}) for number, text in enumerate(texts))
        )
        kept = [text for text, answer in zip(texts, answers, strict=True) if answer.status_code == 200]
        assert {answer.status_code for answer in answers} <= {200, 409}
        assert kept
        history = (await clients[0].get(f"{path}/history")).json()["history"]
        assert sorted(entry["new_content"] for entry in history[1:]) == sorted(kept)
        assert [entry["prev_content"] for entry in history[1:]] == [
            entry["new_content"] for entry in history[:-1]
        ]
        got = await clients[1].get(path)
        assert got.json()["content"] == history[-1]["new_content"]
        # With what they have read, exactly one is first
        changes = [
            client.put(path, json={"content": text}, headers={"if-match": got.headers["etag"]})
            for client, text in zip(clients, texts, strict=False)
        ]
        assert sorted(each.status_code for each in await asyncio.gather(*changes)) == [200, 409]


async def test_a_model_judges_what_is_kept(database_uri: str, tmp_path: Path) -> None:
    """Z1: a block is 400, and is in the history if it was a rollback; no JSON is a block. And a process that dies in the middle."""
    async with (
        stub_model() as model,
        fleet_of(database_uri, tmp_path, project(tmp_path, model), {"SLACKWATER_GATEWAY": "true"}) as fleet,
    ):
        (server,) = await fleet.start()
        async with httpx.AsyncClient(timeout=30, base_url=server.url) as client:
            path, first, second = "/api/skills/custom/report", document(), document(text="Second.")
            model.says('{"decision": "block", "reason": "It\\nlies."}')
            while not model.asked:  # its package is imported meanwhile
                blocked = await install(client, packed(first, **{"report/run.py": "x"}))
            assert (blocked.status_code, blocked.json()) == (
                400,
                {"detail": "Security scan blocked skill 'report': It lies."},
            )
            asked = model.asked[-1]["messages"][-1]["content"]
            assert [file["path"] for file in json.loads(asked)["files"]] == ["SKILL.md", "run.py"]
            model.says('{"decision": "warn", "reason": "Look at it."}')
            assert (await install(client, packed(first))).status_code == 200
            assert (await client.put(path, json={"content": second})).status_code == 200
            for wrong in ("No idea.", 500):
                model.says(wrong)
                answer = await client.put(path, json={"content": first})
                assert (answer.status_code, "blocked the edit" in answer.json()["detail"]) == (400, True)
            model.says('{"decision": "block", "reason": "No."}')
            answer = await client.post(f"{path}/rollback", json={})
            assert answer.json() == {"detail": "Rollback blocked by security scanner: No."}
            # Another's file costs nobody a call
            count = len(model.asked)
            assert (await client.put(path, json={"content": "x"})).status_code == 400
            assert (await install(client, packed(first))).status_code == 409
            assert len(model.asked) == count

            # WHEN the process dies while the model judges
            model.says(None)
            asking = asyncio.create_task(client.put(path, json={"content": first}))
            await model.until_asked(count + 1)
            server.sigkill()
            with pytest.raises(httpx.TransportError):
                await asking
        # THEN nothing of it is left, and the next process goes on
        (server,) = await fleet.start()
        async with httpx.AsyncClient(timeout=30, base_url=server.url) as client:
            assert (await client.get(path)).json()["content"] == second
            history = (await client.get(f"{path}/history")).json()["history"]
            assert [(entry["action"], entry["scanner"]["decision"]) for entry in history] == [
                ("install", "warn"),
                ("human_edit", "warn"),
                ("rollback", "block"),
            ]
            model.says('{"decision": "allow"}')
            assert (await client.put(path, json={"content": first})).status_code == 200
