"""Where things may be: what import-linter cannot see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app" / "slackwater"

SQL = re.compile(
    r"\s*(with\s+\w+\s+as\s*\(|select\s|insert\s+into\s|update\s+\w+(\.\w+)?\s+(\w+\s+)?set\s|delete\s+from\s|"
    r"(create|alter|drop)\s+(table|index|schema|role)\s|listen\s|set\s+\w+\s*=)",
    re.IGNORECASE,
)


def speaks_sql(module: Path) -> bool:
    """Whether a module may hold SQL."""
    inside = module.relative_to(APP)
    return inside.parts[0] in ("runtime", "postgres") or inside.name == "queries.py"


@cache
def texts(module: Path) -> list[tuple[int, str]]:
    """The string constants of a module with their lines, docstrings left out."""
    tree = ast.parse(module.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


def test_sql_is_where_it_belongs() -> None:
    strays = [
        f"{module.relative_to(APP.parent)}:{line}: {text.strip()[:60]}"
        for module in sorted(APP.rglob("*.py"))
        if not speaks_sql(module)
        for line, text in texts(module)
        if SQL.match(text)
    ]

    assert strays == []


@pytest.mark.parametrize(
    "module", ["api/runs/queries.py", "api/threads/queries.py", "runtime/queue/claims.py", "cli/queries.py"]
)
def test_sql_is_recognised(module: str) -> None:
    """Or the test above would find nothing anywhere."""
    assert any(SQL.match(text) for _, text in texts(APP / module))


def test_sql_is_not_made_by_replacing_text_in_other_sql() -> None:
    """Whoever changes the statement that is replaced in would change, or break, another one without seeing it."""
    replacing = [
        f"{module.relative_to(APP.parent)}:{node.lineno}"
        for module in sorted(APP.rglob("*.py"))
        if speaks_sql(module)
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "replace"
        if node.args
        and isinstance(node.args[0], ast.Constant)
        and re.search(r"[a-z]{2}", str(node.args[0].value), re.I)
    ]

    assert replacing == []


@pytest.mark.parametrize(
    ("words", "home"),
    [
        ("('pending', 'running')", None),  # made of the statuses themselves
        ("__interrupt__", "kit/reserved.py"),
        ("24 hours", "runtime/queue/states.py"),
        ("2 minutes", None),
    ],
)
def test_what_several_statements_say_stands_once(words: str, home: str | None) -> None:
    """What they are composed of has a name. Descriptions for people may say it again."""
    found = {
        str(module.relative_to(APP))
        for module in APP.rglob("*.py")
        if module.name != "openapi.py" and APP / "web" / "openapi" not in module.parents
        for _, text in texts(module)
        if words in text
    }

    assert found == ({home} if home else set())


INSIDE = frozenset(
    {"database", "follower", "graphs", "group_commit", "outbox", "sweeper", "threads", "wakeups", "worker"}
)
"""What a Runtime consists of."""


def reached_through(module: Path) -> Iterator[str]:
    """Where a module takes something out of a runtime, `services.runtime.worker`, in place of asking the runtime."""
    for node in ast.walk(ast.parse(module.read_text())):
        if not isinstance(node, ast.Attribute) or node.attr not in INSIDE:
            continue
        owner = node.value
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if name in ("runtime", "_runtime"):
            yield f"{module.name}:{node.lineno}: {name}.{node.attr}"


def test_nobody_reaches_through_the_runtime() -> None:
    handler = APP.parents[1] / "handler"
    runtime = APP / "runtime"
    outside = [
        module for module in (*APP.rglob("*.py"), *handler.rglob("*.py")) if runtime not in module.parents
    ]

    assert [place for module in outside for place in reached_through(module)] == []
    # Or the test would find nothing anywhere: what is inside may.
    assert list(reached_through(runtime / "process" / "stop.py"))


STOPS = re.compile(
    r"\.phase = Phase\.(DRAINING|CLOSED)|\bgate\.shut\(\)|\.(thread_log|sweeper|group_commit)\.(close|stop)\("
)
"""What only a stop does."""


def test_a_stop_has_one_owner() -> None:
    """All that it does to the process stands in one module, in the order in which it happens."""
    assert {
        module.name for module in (APP / "runtime").rglob("*.py") if STOPS.search(module.read_text())
    } == {"stop.py"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("slackwater.cli", ("fastapi", "langchain_core", "langgraph", "psycopg", "pydantic", "uvicorn")),
        ("slackwater.settings", ("fastapi", "langchain_core", "langgraph", "psycopg", "uvicorn")),
        (
            "slackwater.errors, slackwater.kit.budget, slackwater.kit.json_format, slackwater.kit.ids",
            ("fastapi", "langchain_core", "langgraph", "psycopg"),
        ),
        ("slackwater.main", ("slackwater.web.openapi", "boto3", "botocore", "mangum")),
        ("slackwater.project.project", ("fastapi", "langchain_core", "langgraph", "psycopg")),
    ],
)
def test_what_takes_long_to_import_is_imported_when_it_is_needed(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sorted(set({heavy}) & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == []


def test_the_runtime_names_every_module_once() -> None:
    document = (APP / "runtime" / "__init__.py").read_text()
    named: dict[str, list[str]] = {"": []}
    room = ""
    for line in document.splitlines():
        if found := re.match(r"\| \*\*(\w+)\*\*", line):
            named[room := found[1]] = []
        elif line.startswith("| `"):
            named[room] += re.findall(r"`(\w+)`", line.split("|")[1])

    there = {
        folder.name if folder.name != "runtime" else "": sorted(
            module.stem for module in folder.glob("*.py") if module.stem != "__init__"
        )
        for folder in (APP / "runtime", *(path.parent for path in (APP / "runtime").glob("*/__init__.py")))
    }
    assert {room: sorted(modules) for room, modules in named.items()} == there


def classes_of(module: Path) -> Iterator[str]:
    """The public classes of a module, nested ones included."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def test_a_class_name_has_one_meaning() -> None:
    """In both packages together: whoever searches for a class finds it."""
    found: dict[str, list[str]] = {}
    for package in (APP, APP.parents[1] / "handler" / "slackwater_lambda"):
        for module in sorted(package.rglob("*.py")):
            for name in classes_of(module):
                found.setdefault(name, []).append(str(module.relative_to(package.parent)))

    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}
    # Or the test would find nothing anywhere.
    assert found["Event"] == ["slackwater/runtime/events/journal.py"]


def test_test_files_outside_packages_have_names_of_their_own() -> None:
    """pytest would import one of two in place of the other, and collect nothing where both are asked for."""
    names = Counter(
        path.name
        for path in Path(__file__).parents[1].rglob("test_*.py")
        if not (path.parent / "__init__.py").exists()
    )
    assert [name for name, count in names.items() if count > 1] == []
