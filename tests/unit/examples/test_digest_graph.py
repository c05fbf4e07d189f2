"""The example graph by itself, on LangGraph's own checkpointer."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

CONFIG = {"configurable": {"thread_id": "thread"}}


def compiled(digest: ModuleType) -> Any:
    graph = digest.graph.copy()
    graph.checkpointer = InMemorySaver()
    return graph


async def test_each_text_takes_four_supersteps_beside_the_others_and_the_join_runs_once(
    digest: ModuleType,
) -> None:
    told = [event async for event in compiled(digest).astream({}, CONFIG, stream_mode="custom")]

    assert [(event["superstep"], event["node"]) for event in told] == [
        (1, "plan"),
        *[(2, "read")] * 2,
        *[(3, "outline")] * 2,
        *[(4, "summarise")] * 2,
        *[(5, "check")] * 2,
        (6, "overview"),
        (7, "write"),
    ]
    assert {event["process"] for event in told} == {os.getpid()}
    assert Counter(event["file"] for event in told) == {None: 3, "b.md": 4, "deep/a.txt": 4}


async def test_the_report_is_in_the_state_and_in_a_file_that_a_second_run_replaces(
    digest: ModuleType, tmp_path: Path
) -> None:
    graph = compiled(digest)

    for _ in range(2):
        values = await graph.ainvoke({}, CONFIG)

        assert values["path"] == str(tmp_path / "out" / "thread.md")
        assert Path(values["path"]).read_text() == values["report"]
        assert values["report"].startswith("# Digest of 2 texts\n")
        assert "- In 1911 the harbour froze." in values["report"]
        assert "## deep/a.txt" in values["report"]
    assert len(list((tmp_path / "out").iterdir())) == 1


async def test_files_of_the_client_take_the_place_of_the_folder(digest: ModuleType) -> None:
    values = await compiled(digest).ainvoke({"files": {"../../x": "Only this."}, "folder": "../.."}, CONFIG)

    assert values["names"] == ["../../x"]
    assert values["notes"]["../../x"]["summary"] == "Only this."


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"folder": ".."}, "There is no '..' in the library"),
        ({"folder": "deep/a.txt"}, "There is no folder"),
        ({"files": {"a": 1}}, "files must be texts by name"),
    ],
)
async def test_wrong_input_ends_the_run_with_a_sentence(
    digest: ModuleType, asked: Any, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        await compiled(digest).ainvoke(asked, CONFIG)


async def test_a_folder_without_texts_is_an_error_and_too_many_texts_are_named(
    digest: ModuleType, folder: Path
) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"There are no texts to read \(\.markdown, "):
        await compiled(digest).ainvoke({"folder": "empty"}, CONFIG)

    files = {f"{n:02}.txt": "One. Two." for n in range(digest.MAX_TEXTS + 2)}
    values = await compiled(digest).ainvoke({"files": files}, CONFIG)

    assert len(values["notes"]) == digest.MAX_TEXTS
    assert values["left_out"] == ["12.txt", "13.txt"]
    assert "## Not read\n\n- 12.txt\n- 13.txt\n" in values["report"]


async def test_a_person_is_asked_before_anything_is_written(digest: ModuleType, tmp_path: Path) -> None:
    for answer, written in ((True, True), ("yes", True), ("no", False), (None, False)):
        graph = compiled(digest)

        waiting = await graph.ainvoke({"approve": True}, CONFIG)

        (question,) = waiting["__interrupt__"]
        assert question.value["report"].startswith("# Digest of 2 texts")
        assert not (tmp_path / "out").exists()
        if answer is not None:
            values = await graph.ainvoke(Command(resume=answer), CONFIG)
            assert (values.get("path") is not None) is written
        if written:
            (tmp_path / "out" / "thread.md").unlink()
            (tmp_path / "out").rmdir()


async def test_a_number_that_the_text_does_not_give_is_pointed_out(
    digest: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(instruction: str, text: str, file: str | None = None) -> str:
        return "There were 41 boats in 1911."

    monkeypatch.setattr(digest, "ask", ask)

    values = await compiled(digest).ainvoke({"files": {"a.txt": "In 1911 there were boats."}}, CONFIG)

    assert values["notes"]["a.txt"]["unfounded"] == ["41"]
    assert "> Not in the text: 41\n" in values["report"]


async def test_tokens_tell_which_text_they_are_about_and_add_up_to_the_answers(digest: ModuleType) -> None:
    graph, said = compiled(digest), defaultdict[tuple[str, str | None], str](str)

    async for chunk, about in graph.astream({}, CONFIG, stream_mode="messages"):
        said[about["langgraph_node"], about["file"]] += chunk.content

    values = (await graph.aget_state(CONFIG)).values
    assert said["overview", None].strip() == values["overview"]
    for name, note in values["notes"].items():
        assert said["summarise", name].strip() == note["summary"]
        assert said["outline", name].strip().splitlines() == note["points"]
