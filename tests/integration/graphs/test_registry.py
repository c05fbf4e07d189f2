"""Real projects in folders of their own, imported as a start does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from slackwater.errors import ExitCode, GraphImportError, NotAGraph, NotFound
from slackwater.graphs.registry import Graphs

Project = Callable[..., Path]

FLOW = """
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    text: str

async def node(state):
    return {"text": NAME}

NAME = "flow"
builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
"""

FACTORIES = (
    """
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from langchain_core.runnables import RunnableConfig
from langgraph_sdk.runtime import ServerRuntime
"""
    + FLOW
    + """
seen = []

@dataclass
class Ctx:
    model: str

def nothing():
    seen.append(())
    return builder

async def config(config: RunnableConfig):
    seen.append(config)
    return builder.compile(name="made")

def runtime(runtime: ServerRuntime[Ctx]):
    seen.append(runtime)
    return builder.compile()

def both(runtime: ServerRuntime, config: RunnableConfig):
    seen.append((runtime.access_context, config))
    return builder.compile()

def swapped(anything, *, runtime: "ServerRuntime", flavour="plain"):
    seen.append((anything, runtime.access_context, flavour))
    return builder.compile()

@asynccontextmanager
async def async_manager(config):
    seen.append("open")
    yield builder
    seen.append("close")

@contextmanager
def manager():
    seen.append("open")
    yield builder.compile()
    seen.append("close")

@asynccontextmanager
async def swallowing():
    try:
        yield builder.compile()
    except BaseException:
        seen.append("swallowed")

class Again:
    async def __aenter__(self):
        seen.append("open")
        return builder
    async def __aexit__(self, *error):
        seen.append("close")

again = Again()

async def something_else():
    return {"not": "a graph"}

def broken():
    raise RuntimeError("no model configured")
"""
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Writes a project; `sys.path`, `sys.modules` and the environment are as before at the end."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    environment, modules = dict(os.environ), set(sys.modules)

    def make(files: dict[str, str], name: str = "project", **content: Any) -> Path:
        root = tmp_path / name
        root.mkdir(parents=True)
        for file, text in files.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(textwrap.dedent(text))
        (root / "langgraph.json").write_text(json.dumps(content))
        return root

    yield make
    os.environ.clear()
    os.environ.update(environment)
    for module in set(sys.modules) - modules:
        if "site-packages" not in str(getattr(sys.modules[module], "__file__", "site-packages")):
            del sys.modules[module]


@pytest.fixture
def factories(project: Project) -> Graphs:
    return load_factories(
        project, "nothing", "config", "runtime", "both", "swapped", "async_manager", "manager"
    )


def load_factories(project: Project, *names: str) -> Graphs:
    return Graphs.load(project({"f.py": FACTORIES}, graphs={name: f"./f.py:{name}" for name in names}))


def seen() -> list[Any]:
    (module,) = (module for name, module in sys.modules.items() if name.startswith("project_f_"))
    return module.seen  # type: ignore[no-any-return]


def opened(graphs: Graphs, graph_id: str, **arguments: Any) -> Any:
    given = {
        "owner": "alice",
        "config": {},
        "access": "threads.read",
        "checkpointer": None,
        "store": None,
        **arguments,
    }
    return graphs.open(graph_id, **given)


def import_error(folder: Path) -> str:
    with pytest.raises(GraphImportError) as caught:
        Graphs.load(folder)
    assert caught.value.exit_code == ExitCode.GRAPH
    return caught.value.message


# ---------------------------------------------------------------------------------------------- compiled graphs


async def test_a_graph_gets_our_checkpointer_and_store_in_place_of_its_own(project: Project) -> None:
    # GIVEN a graph that was compiled with a checkpointer and a store
    text = FLOW + (
        "from langgraph.checkpoint.memory import InMemorySaver\nfrom langgraph.store.memory import InMemoryStore\n"
        "own = builder.compile(checkpointer=InMemorySaver(), store=InMemoryStore())\n"
    )
    graphs = Graphs.load(project({"own.py": text}, graphs={"own": "./own.py:own"}))
    saver, store = InMemorySaver(), InMemoryStore()

    # WHEN it is opened with others, twice at a time
    config: Any = {"configurable": {"thread_id": "1"}}
    async with (
        opened(graphs, "own", checkpointer=saver, store=store) as graph,
        opened(graphs, "own") as other,
    ):
        await graph.ainvoke({"text": ""}, config)

        # THEN each has what it was opened with, and nothing is shared
        assert (graph.checkpointer, graph.store) == (saver, store)
        assert (other.checkpointer, other.store) == (None, None)
    assert saver.get_tuple(config) is not None


async def test_a_graph_without_a_name_is_called_by_its_id_and_another_keeps_its_name(
    project: Project,
) -> None:
    text = FLOW + "plain = builder.compile()\nnamed = builder.compile(name='Flow')\n"
    sources = {name: f"./g.py:{name}" for name in ("plain", "named", "builder")}
    graphs = Graphs.load(project({"g.py": text}, graphs=sources))

    assert [graphs.name(graph_id) for graph_id in graphs.ids] == ["plain", "Flow", "builder"]
    for graph_id, name in zip(graphs.ids, ["plain", "Flow", "builder"], strict=True):
        async with opened(graphs, graph_id) as graph:
            assert graph.name == name


async def test_opening_keeps_the_types_that_strict_deserialisation_allows(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph._internal._serde.STRICT_MSGPACK_ENABLED", True)
    graphs = Graphs.load(project({"g.py": FLOW + "graph = builder.compile()"}, graphs={"g": "./g.py:graph"}))

    async with opened(graphs, "g") as graph:
        assert graph._serde_allowlist is not None


def test_ids_and_descriptions_are_those_of_the_file(project: Project) -> None:
    graphs = Graphs.load(
        project(
            {"g.py": FLOW},
            graphs={"z": "./g.py:builder", "a": {"path": "./g.py:builder", "description": "Flows."}},
        )
    )

    assert graphs.ids == ("z", "a")
    assert (graphs.description("z"), graphs.description("a")) == (None, "Flows.")
    assert "a" in graphs
    assert "b" not in graphs


async def test_an_unknown_graph_is_absent_and_the_others_are_named(project: Project) -> None:
    graphs = Graphs.load(project({"g.py": FLOW}, graphs={"z": "./g.py:builder", "a": "./g.py:builder"}))

    with pytest.raises(NotFound) as caught:
        async with opened(graphs, "nope"):
            pass
    assert caught.value.message == "Graph 'nope' not found. Expected one of: ['a', 'z']"


# ------------------------------------------------------------------------------------------------------ factories


async def test_a_factory_runs_at_every_access_and_gets_what_its_parameters_ask_for(factories: Graphs) -> None:
    config: Any = {"configurable": {"flavor": "lime"}}
    assert seen() == [], "a factory must not run when it is loaded"

    for graph_id in ("nothing", "config", "both", "swapped"):
        for _ in range(2):
            async with opened(factories, graph_id, config=config) as graph:
                assert "node" in graph.nodes

    assert seen() == [
        (),
        (),
        config,
        config,
        ("threads.read", config),
        ("threads.read", config),
        (config, "threads.read", "plain"),
        (config, "threads.read", "plain"),
    ]
    assert factories.name("config") == "config"


async def test_a_factory_sees_the_store_and_only_for_a_run_the_context(factories: Graphs) -> None:
    store = InMemoryStore()

    for access in ("threads.create_run", "threads.update", "threads.read", "assistants.read"):
        async with opened(factories, "runtime", access=access, store=store, context={"model": "m"}):
            runtime = seen().pop()
        assert (runtime.access_context, runtime.store, runtime.user) == (access, store, None)
        if access == "threads.create_run":
            # As an object of the type in ServerRuntime[Ctx].
            assert runtime.execution_runtime.context.model == "m"
        else:
            assert runtime.execution_runtime is None


@pytest.mark.parametrize("graph_id", ["async_manager", "manager"])
async def test_what_a_context_manager_holds_is_released_after_the_access(
    factories: Graphs, graph_id: str
) -> None:
    async with opened(factories, graph_id) as graph:
        assert await graph.ainvoke({"text": ""}) == {"text": "flow"}
        assert seen() == ["open"]
    assert seen() == ["open", "close"]


async def test_a_context_manager_object_is_entered_at_every_access(project: Project) -> None:
    graphs = load_factories(project, "again")

    for _ in range(2):
        async with opened(graphs, "again") as graph:
            assert graph.name == "again"

    assert seen() == ["open", "close"] * 2


@pytest.mark.parametrize("error", [ValueError("boom"), asyncio.CancelledError()])
async def test_a_factory_cannot_swallow_how_a_run_ended(project: Project, error: BaseException) -> None:
    graphs = load_factories(project, "swallowing")

    with pytest.raises(type(error)) as caught:
        async with opened(graphs, "swallowing"):
            raise error

    assert caught.value is error
    assert seen() == ["swallowed"]


async def test_a_factory_that_returns_something_else_or_raises_says_so(project: Project) -> None:
    graphs = load_factories(project, "something_else", "broken")

    with pytest.raises(NotAGraph) as caught:
        async with opened(graphs, "something_else"):
            pass
    assert caught.value.message == "The factory of graph 'something_else' returned a dict, not a graph."
    assert caught.value.status == 424
    with pytest.raises(RuntimeError, match="no model configured"):
        async with opened(graphs, "broken"):
            pass


# ----------------------------------------------------------------------------------------------- what is imported


def test_files_with_one_name_in_two_folders_and_two_projects_stay_apart(project: Project) -> None:
    files = {"a/agent.py": FLOW + "NAME = 'a'", "b/agent.py": FLOW + "NAME = 'b'", "json.py": FLOW}
    sources = {"a": "./a/agent.py:NAME", "b": "./b/agent.py:NAME", "json": "./json.py:builder"}
    folder = project(
        files, graphs={name: source.replace("NAME", "builder") for name, source in sources.items()}
    )
    other = project({"a/agent.py": FLOW + "NAME = 'other'"}, "other", graphs={"a": "./a/agent.py:builder"})

    async def run(graphs: Graphs, graph_id: str) -> Any:
        async with opened(graphs, graph_id) as graph:
            return (await graph.ainvoke({"text": ""}))["text"]

    first, second = Graphs.load(folder), Graphs.load(other)

    async def texts() -> list[Any]:
        return [
            await run(first, "a"),
            await run(first, "b"),
            await run(first, "json"),
            await run(second, "a"),
        ]

    assert asyncio.run(texts()) == ["a", "b", "flow", "other"]
    assert json.dumps({}) == "{}"


def test_a_file_with_several_graphs_is_imported_once_and_under_a_name_that_every_process_finds(
    project: Project, tmp_path: Path
) -> None:
    """Checkpoints hold the names of the classes in it; after a hand-over another process looks them up."""
    text = FLOW + "print('imported', State.__module__)\n"
    script = "import sys; from pathlib import Path; from slackwater.graphs.registry import Graphs; Graphs.load(Path(sys.argv[1]))"
    graphs = {"a": "./agents/g.py:builder", "b": "./agents/../agents/g.py:builder"}

    def imported(name: str, seed: str) -> list[str]:
        folder = project({"agents/g.py": text}, name, graphs=graphs)
        env = {**os.environ, "PYTHONHASHSEED": seed}
        arguments = [sys.executable, "-c", script, str(folder)]
        done = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.splitlines()

    one, two = imported("here", "1"), imported("elsewhere/deeper", "2")

    assert len(one) == 1
    assert one == two


def test_modules_dependencies_and_src_folders_import_by_name(project: Project) -> None:
    graphs = Graphs.load(
        project(
            {
                "src/slack_pkg/__init__.py": "",
                "src/slack_pkg/flow.py": "from slack_tools import NAME as TOOL\n" + FLOW,
                "libs/slack_tools.py": "NAME = 'tools'",
                "agent.py": "from slack_pkg.flow import builder",
            },
            dependencies=[".", "./libs"],
            graphs={"module": "slack_pkg.flow:builder", "file": "./agent.py:builder"},
        )
    )

    assert graphs.ids == ("module", "file")


def test_a_graph_sees_the_projects_environment_while_it_imports(project: Project) -> None:
    text = "import os\nassert os.environ['SLACK_MODEL'] == 'fake'\n" + FLOW
    folder = project(
        {"g.py": text, "keys.env": "SLACK_MODEL=fake"}, env="keys.env", graphs={"g": "./g.py:builder"}
    )

    assert Graphs.load(folder).ids == ("g",)


def test_what_has_no_effect_is_logged(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Graphs.load(project({"g.py": FLOW}, graphs={"g": "./g.py:builder"}, ui={"agent": "./ui.tsx"}))

    assert "these keys have no effect: ui" in caplog.text


def test_langgraph_is_not_imported_before_graphs_are_loaded() -> None:
    script = "import sys, slackwater.graphs.registry, slackwater.graphs.topology; print('langgraph' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == "False"


# ------------------------------------------------------------------------------------------ what does not import


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("import nowhere_at_all", "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('no key')", "cannot be imported: SystemExit: no key"),
        ("def (", "line 1)"),
        ("x = 1", "the module has no 'graph'."),
        ("graph = {'a': 1}", "it is a dict, not a graph or a function that returns one."),
        ("graph = None", "it is None, not a graph or a function that returns one."),
        ("def graph(a, b): pass", "its factory takes (a, b); it may take at most one RunnableConfig and one parameter annotated with"
         " ServerRuntime."),
        (FLOW + "graph = StateGraph(State).add_node('a', node)",
         "Graph must have an entrypoint: add at least one edge from START to another node."),
        ("from contextlib import asynccontextmanager\n@asynccontextmanager\nasync def make():\n  yield\ngraph = make()",
         "it is a context manager that can be entered only once: name the function instead of its result."),
    ],
)  # fmt: skip
def test_a_graph_that_does_not_import_stops_the_start_with_its_name_and_the_last_line(
    project: Project, text: str, ending: str
) -> None:
    folder = project(
        {"good.py": FLOW, "bad.py": text}, graphs={"good": "./good.py:builder", "bad": "./bad.py:graph"}
    )

    message = import_error(folder)

    assert message.startswith("Graph 'bad' (./bad.py:graph)")
    assert message.endswith(ending)


def test_a_missing_file_or_module_is_named(project: Project) -> None:
    assert "No such file" in import_error(project({}, "one", graphs={"g": "./gone.py:graph"}))
    assert "No module named 'gone_pkg'" in import_error(
        project({}, "two", graphs={"g": "gone_pkg.mod:graph"})
    )


def test_a_file_that_failed_can_be_mended_and_loaded_again(project: Project) -> None:
    folder = project({"g.py": "1 / 0"}, graphs={"g": "./g.py:builder"})
    import_error(folder)
    (folder / "g.py").write_text(FLOW)

    assert Graphs.load(folder).ids == ("g",)
