"""plan → for each text: read → outline → summarise → check → overview → (approve) → write

Every arrow is a superstep: a checkpoint is written there, and another process may go on from it. Two habits follow:
what the next step needs is in the state or in the `Send`, never in a variable or on this machine's disk; and a
step that changes something outside, here `write`, does the same when it is done again.
"""

from __future__ import annotations

import asyncio
import operator
import os
import re
import time
from itertools import islice
from typing import Annotated, Literal, NotRequired

from langgraph.config import get_config, get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from digest.library import SUFFIXES, Library
from digest.model import chat_model
from digest.settings import Settings

MAX_TEXTS = 12
MAX_FOUND = 1000
MAX_CHARACTERS = 20_000

OUTLINE = "Reply with at most 3 sentences, one per line: the points of this text that matter most."
SUMMARY = (
    "Reply with at most 2 sentences: what this text says, in plain words, without a number it does not give."
)
OVERVIEW = "Reply with at most 3 sentences: what these texts, taken together, tell their reader."

settings = Settings.load()
library = Library(settings.root)
model = chat_model(settings)


class Input(TypedDict, total=False):
    folder: str
    """Inside the library; the whole of it by default."""
    files: dict[str, str]
    """Texts by name, for a client whose files are not on the server. They take the place of `folder`."""
    approve: bool
    """Ask a person before the report is written."""


class Note(TypedDict):
    """What is known about one text in the end."""

    points: list[str]
    summary: str
    unfounded: list[str]
    """Numbers in the summary that the text does not give."""


class Output(TypedDict, total=False):
    names: list[str]
    left_out: list[str]
    """Texts that were too many."""
    notes: Annotated[dict[str, Note], operator.or_]
    overview: str
    report: str
    path: str | None
    """Where the server has written the report."""


class State(Input, Output): ...


class Work(TypedDict):
    """What travels from step to step for one text."""

    name: str
    text: NotRequired[str]
    points: NotRequired[list[str]]
    summary: NotRequired[str]


async def plan(state: State) -> Command[Literal["read"]]:
    """Choose the texts, and start the work on each of them."""
    tell("plan")
    files = state.get("files") or {}
    if not all(isinstance(text, str) for text in files.values()):
        raise ValueError('files must be texts by name, such as {"a.txt": "Once upon a time …"}.')
    found = list(files) or await asyncio.to_thread(find, state.get("folder") or ".")
    if not found:
        raise ValueError(f"There are no texts to read ({', '.join(sorted(SUFFIXES))}).")
    names = found[:MAX_TEXTS]
    works = [Work(name=name, text=files[name]) if files else Work(name=name) for name in names]
    return Command(
        update={"names": names, "left_out": found[MAX_TEXTS:]}, goto=[Send("read", work) for work in works]
    )


async def read(state: Work) -> Command[Literal["outline"]]:
    """Fetch the text. From here on it travels with the work: the next process may not see this disk."""
    tell("read", state["name"])
    text = state.get("text")
    if text is None:
        text = await asyncio.to_thread(library.read, state["name"])
    return Command(goto=Send("outline", {**state, "text": text[:MAX_CHARACTERS]}))


async def outline(state: Work) -> Command[Literal["summarise"]]:
    """Find the points that matter."""
    tell("outline", state["name"])
    answer = await ask(OUTLINE, state["text"], state["name"])
    points = [line.strip("-*• ") for line in answer.splitlines()]
    return Command(goto=Send("summarise", {**state, "points": [point for point in points if point]}))


async def summarise(state: Work) -> Command[Literal["check"]]:
    """Say it in two sentences."""
    tell("summarise", state["name"])
    points = "\n\n".join(state["points"])
    summary = await ask(SUMMARY, f"{points}\n\n{state['text']}", state["name"])
    return Command(goto=Send("check", {**state, "summary": summary}))


async def check(state: Work) -> dict[str, dict[str, Note]]:
    """Hold the summary's numbers against the text: the cheapest way to catch a model that makes things up."""
    tell("check", state["name"])
    unfounded = sorted(numbers(state["summary"]) - numbers(state["text"]))
    note = Note(points=state["points"], summary=state["summary"], unfounded=unfounded)
    return {"notes": {state["name"]: note}}


async def overview(state: State) -> dict[str, str]:
    """Say what they have to say together."""
    tell("overview")
    summaries = "\n\n".join(state["notes"][name]["summary"] for name in state["names"])
    text = await ask(OVERVIEW, summaries)
    return {"overview": text, "report": compose({**state, "overview": text})}


def wants_approval(state: State) -> Literal["approve", "write"]:
    return "approve" if state.get("approve") else "write"


async def approve(state: State) -> Command[Literal["write", "__end__"]]:
    """Wait for a person, for as long as it takes: no process has to stay for it.

    Resume with `true` or `"yes"`; anything else ends the run without a file.
    """
    # A node that is resumed starts again from its first line, so nothing but the question comes before it.
    answer = interrupt({"question": "Shall this report be written?", "report": state["report"]})
    tell("approve")
    approved = answer is True or str(answer).lower() in ("y", "yes", "true")
    return Command(goto="write" if approved else "__end__")


async def write(state: State) -> dict[str, str | None]:
    """Put the report where it belongs. The name comes from the thread: done again, it writes the same file again."""
    tell("write")
    if settings.out is None:
        return {"path": None}
    thread = re.sub(r"[^\w-]", "_", str(get_config()["configurable"]["thread_id"]))
    path = settings.out / f"{thread}.md"

    def save() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(state["report"], encoding="utf-8")

    await asyncio.to_thread(save)
    return {"path": str(path)}


def find(folder: str) -> list[str]:
    return list(islice(library.names(folder), MAX_FOUND))


def compose(state: State) -> str:
    """The report as Markdown."""
    names = state["names"]
    parts = [f"# Digest of {len(names)} text{'s' * (len(names) > 1)}", state["overview"]]
    for name in names:
        note = state["notes"][name]
        parts += [f"## {name}", note["summary"], "\n".join(f"- {point}" for point in note["points"])]
        if note["unfounded"]:
            parts.append(f"> Not in the text: {', '.join(note['unfounded'])}")
    if left_out := state["left_out"]:
        parts += ["## Not read", "\n".join(f"- {name}" for name in left_out)]
    return "\n\n".join(parts) + "\n"


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))


async def ask(instruction: str, text: str, file: str | None = None) -> str:
    """The model's answer. `file` goes with each of its tokens, so that a client can tell parallel answers apart."""
    answer = await model.ainvoke([("system", instruction), ("user", text)], {"metadata": {"file": file}})
    return answer.text.strip()


def tell(node: str, file: str | None = None) -> None:
    """Say on the `custom` stream what begins, in which superstep, in which process."""
    superstep = get_config()["metadata"]["langgraph_step"]
    get_stream_writer()(
        {"node": node, "file": file, "superstep": superstep, "process": os.getpid(), "at": time.time()}
    )


graph = (
    StateGraph(State, input_schema=Input, output_schema=Output)
    .add_node("plan", plan)
    .add_node("read", read, input_schema=Work)
    .add_node("outline", outline, input_schema=Work)
    .add_node("summarise", summarise, input_schema=Work)
    .add_node("check", check, input_schema=Work)
    .add_node("overview", overview, defer=True)  # once, after the last text, however long its way was
    .add_node("approve", approve)
    .add_node("write", write)
    .add_edge(START, "plan")
    .add_edge("check", "overview")
    .add_conditional_edges("overview", wants_approval)
    .add_edge("write", END)
    .compile(name="digest")
)
