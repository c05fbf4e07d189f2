"""The example as its users have it: served, and used through the stock client."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from support.server import ROOT, fleet_of

PROJECT = ROOT / "examples" / "digest"


@pytest.fixture
async def client(database_uri: str, tmp_path: Path) -> AsyncIterator[LangGraphClient]:
    settings = {"DIGEST_WORDS_PER_SECOND": "0", "DIGEST_OUT": str(tmp_path / "out")}
    async with fleet_of(database_uri, tmp_path, PROJECT, settings) as fleet:
        # A run that ends in an error is logged with its traceback.
        (server,) = await fleet.start(tolerated=("NotInLibrary",))
        async with get_client(url=server.url, api_key=None) as client:
            yield client
        assert fleet.complaints == []


async def test_reports_on_its_own_texts_on_a_clients_and_on_no_others(
    client: LangGraphClient, tmp_path: Path
) -> None:
    # WHEN it is run as its README says
    own = await client.runs.wait(None, "digest", input={"folder": "."})
    files = {"note.md": "Slack water is short. Nothing moves at slack water."}
    sent = await client.runs.wait(None, "digest", input={"files": files})

    # THEN the report is in the values, and in a file of the server
    assert own["names"] == sorted(path.name for path in (PROJECT / "texts").iterdir())
    assert all(not note["unfounded"] for note in own["notes"].values())
    assert Path(own["path"]).parent == tmp_path / "out"
    assert Path(own["path"]).read_text() == own["report"]
    assert sent["names"] == ["note.md"]

    # AND nothing outside the library is read
    for folder in ("..", "/etc", str(ROOT)):
        answer = await client.runs.wait(None, "digest", input={"folder": folder}, raise_error=False)
        assert answer["__error__"]["message"] == f"There is no {folder!r} in the library."


async def test_waits_for_a_persons_approval(client: LangGraphClient, tmp_path: Path) -> None:
    thread_id = (await client.threads.create())["thread_id"]

    waiting = await client.runs.wait(thread_id, "digest", input={"approve": True})

    assert waiting["__interrupt__"][0]["value"]["report"] == waiting["report"]
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    assert not (tmp_path / "out").exists()

    done = await client.runs.wait(thread_id, "digest", command={"resume": True})

    assert Path(done["path"]).name == f"{thread_id}.md"
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_the_code_of_its_readme_runs(
    client: LangGraphClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)
    url = str(client.http.client.base_url).rstrip("/")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.md").write_text("The tide turns. Then it turns again.")
    monkeypatch.chdir(tmp_path)

    names: dict[str, object] = {"client": client}
    exec(first.replace("http://127.0.0.1:2024", url).replace("asyncio.run(main())", ""), names)
    await names["main"]()  # type: ignore[operator]
    body = "\n".join(f"    {line}" for line in second.splitlines())
    exec(f"async def approved():\n{body}", names := {"client": client})
    await names["approved"]()  # type: ignore[operator]

    out = capsys.readouterr().out
    assert out.count("# Digest of 6 texts") == 2
    assert "mine.md tide " in out
