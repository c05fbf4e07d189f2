from __future__ import annotations

import sys

import pytest


@pytest.fixture
def model():
    from digest.model import SkimmingModel

    return SkimmingModel(words_per_second=0)


TEXT = """# Water

Boats float on water, and the water carries boats. Nobody knows.

> Water that freezes carries no boats. Boats float on water, and the water carries boats."""


async def test_it_picks_the_most_telling_sentences_once_each_in_their_order_without_headings(model) -> None:
    answer = await model.ainvoke(
        [("system", "Reply with at most 2 sentences, one per line."), ("user", TEXT)]
    )

    assert answer.text.splitlines() == [
        "Boats float on water, and the water carries boats.",
        "Water that freezes carries no boats.",
    ]


async def test_streamed_invoked_and_without_a_loop_it_says_the_same(model) -> None:
    prompt = [("system", "Reply."), ("user", TEXT)]

    words = [chunk.text async for chunk in model.astream(prompt) if chunk.text]

    assert words[:3] == ["Boats ", "float ", "on "]
    assert "".join(words) == (await model.ainvoke(prompt)).text == model.invoke(prompt).text


@pytest.mark.parametrize("text", ["", "   \n\n ", "----"])
async def test_of_an_empty_text_it_says_so(model, text: str) -> None:
    assert (
        await model.ainvoke([("system", "."), ("user", text)])
    ).text == "There is nothing to read in this text."


async def test_an_endless_sentence_is_cut(model) -> None:
    answer = await model.ainvoke([("system", "."), ("user", "word " * 500)])

    assert len(answer.text.split()) == 31
    assert answer.text.endswith(" …")


def test_a_configured_model_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from digest.model import chat_model
    from digest.settings import Settings

    monkeypatch.setitem(sys.modules, "langchain", None)
    monkeypatch.setenv("DIGEST_MODEL", "openai:gpt-4.1-mini")

    with pytest.raises(ImportError, match=r"DIGEST_MODEL=openai:gpt-4\.1-mini needs `pip install langchain`"):
        chat_model(Settings.load())


def test_settings_come_from_the_environment_and_a_dash_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from digest.settings import PROJECT, Settings

    for name in ("DIGEST_ROOT", "DIGEST_OUT", "DIGEST_MODEL", "DIGEST_WORDS_PER_SECOND"):
        monkeypatch.delenv(name, raising=False)
    assert Settings.load() == Settings(PROJECT / "texts", PROJECT / "out", None, 25.0)

    monkeypatch.setenv("DIGEST_OUT", "-")
    monkeypatch.setenv("DIGEST_WORDS_PER_SECOND", "0")
    assert Settings.load() == Settings(PROJECT / "texts", None, None, 0.0)
