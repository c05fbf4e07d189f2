"""What the documents say is so: settings, commands, links, exit codes."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from slackwater.cli.root import cli
from slackwater.errors import ExitCode
from slackwater.kit.budget import Budget
from slackwater.runtime.process import stop
from slackwater.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("examples/*/*.md"),
        ROOT / "tests" / "README.md",
    )
)
COMMAND_DOCUMENTS = (*DOCUMENTS, Path(".env.example"))

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)


def text_of(document: Path) -> str:
    return (ROOT / document).read_text()


def prose_of(document: Path) -> str:
    """The text without its blocks of code."""
    return re.sub(r"```.*?```", "", text_of(document), flags=re.DOTALL)


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(document), re.DOTALL)


# Settings


def variables() -> dict[str, str]:
    """Every setting's variable and its default as text, in the order in which they are declared."""

    def shown(default: object) -> str:
        if default is None or default == ():
            return ""
        if isinstance(default, bool):
            return str(default).lower()
        return (
            f"{default:g}"
            if isinstance(default, float) and default < 1e5
            else str(default).removesuffix(".0")
        )

    return {
        f"SLACKWATER_{name.upper()}": shown(field.default) for name, field in Settings.model_fields.items()
    }


def unit_of(variable: str) -> str:
    return {"SECONDS": "s", "BYTES": "bytes"}.get(variable.rpartition("_")[2], "")


def test_settings_md_is_the_settings() -> None:
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split(" | ")]
        for line in text_of(Path("docs/settings.md")).splitlines()
        if line.startswith("| `SLACKWATER_")
    ]

    assert {name: default for name, default, *_ in rows} == variables()
    assert len(rows) == len(variables())
    for name, _, *rest in rows:
        assert not unit_of(name) or unit_of(name) in rest, name
        assert rest[-1], name


def test_security_md_says_how_every_secret_is_replaced() -> None:
    told = text_of(Path("SECURITY.md")).partition("## How to replace every secret")[2].partition("\n## ")[0]
    secrets = {
        f"SLACKWATER_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if not field.repr or re.search(r"secret|key|password|token|iam|authorizer", name)
    }

    assert len(secrets) > 5
    assert secrets <= set(re.findall(r"`(SLACKWATER_\w+)`", told))


def test_env_example_is_the_settings() -> None:
    stanzas = re.findall(r"^# (.+)\n#(SLACKWATER_\w+)=(.*)$", text_of(Path(".env.example")), re.M)

    assert {name: default for _, name, default in stanzas} == variables()
    assert [name for _, name, _ in stanzas] == list(variables())
    for meaning, name, _ in stanzas:
        unit = unit_of(name)
        assert not unit or meaning.endswith(f"({unit})"), name


def test_env_example_changes_nothing_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    defaults = Settings.load()

    settings = re.findall(r"^#(SLACKWATER_\w+=.+)$", text_of(Path(".env.example")), re.M)
    (tmp_path / ".env").write_text("\n".join(settings))

    assert Settings.load() == defaults


# Links


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(document), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(prose_of(document)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document.parent / path).resolve() if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT)), link


# Commands


def commands(document: Path) -> Iterator[list[str]]:
    """The words of every `slackwater …` in a document."""
    for block, span in CODE.findall(text_of(document)):
        for line in (block or span).splitlines():
            words = line.strip().removeprefix("$ ").split()
            if words[:1] == ["slackwater"]:
                yield words[1:]
    if document.suffix != ".md":
        for name in re.findall(r"slackwater ((?:[a-z]+ ?)+)", text_of(document)):
            yield name.split()[:1]


@pytest.mark.parametrize("document", COMMAND_DOCUMENTS, ids=str)
def test_documented_commands_exist(document: Path) -> None:
    for words in commands(document):
        command: Any = get_command(cli)
        for word in words:
            if word.startswith("-"):
                known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
                assert word.partition("=")[0] in known, words
            elif hasattr(command, "commands"):
                assert word.rstrip(",") in command.commands, words
                command = command.commands[word.rstrip(",")]
        assert not hasattr(command, "commands") or len(words) <= 1, words


def all_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not hasattr(command, "commands"):
        yield " ".join(path)
    for name, child in getattr(command, "commands", {}).items():
        yield from all_commands(child, (*path, name))


def test_the_readme_names_every_command() -> None:
    documented = {" ".join(words[:2]) for words in commands(Path("README.md"))}

    for command in all_commands(get_command(cli)):
        assert any(text == command or text.startswith(f"{command} ") for text in documented), command


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_python_programs_and_modules_that_are_named_are_there(document: Path) -> None:
    for program in re.findall(r"python3? ([\w/]+\.py)", text_of(document)):
        assert (ROOT / program).is_file(), program
    for module in re.findall(r"python3? -m (\S+?)[` \n]", text_of(document)):
        if (ROOT / module.partition(".")[0]).is_dir():
            place = ROOT / module.replace(".", "/")
            assert (place / "__main__.py").is_file() or place.with_suffix(".py").is_file(), module
    for snippet in blocks(document, "python"):
        compile(snippet, str(document), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


# Facts


def test_every_exit_code_is_explained() -> None:
    text = text_of(Path("docs/stopping.md")).partition("## Exit codes")[2].partition("\n## ")[0]

    assert {int(number) for number in re.findall(r"(?<![\w.])\d+(?![\w.])", text)} == {
        int(code) for code in ExitCode
    }


def test_the_drain_report_has_the_keys_of_a_real_one() -> None:
    """Those of a run are compared with a real drain in tests/integration/web/test_door.py."""
    report = json.loads(blocks(Path("docs/stopping.md"), "json")[0])

    real = stop.report([], Budget.of(25, drain_reserve=2, hard_reserve=0.5), "SIGTERM")

    assert report.keys() == {"event", *real}
    assert report["runs"]


# The map of the code

APP, HANDLER = ROOT / "app" / "slackwater", ROOT / "handler" / "slackwater_lambda"
ARCHITECTURE = Path("docs/architecture.md")
MAPS = (
    ARCHITECTURE,
    Path("docs/glossary.md"),
    Path("docs/life-of-a-run.md"),
    Path("tests/README.md"),
    Path("CONTRIBUTING.md"),
)
"""The documents that say where things are, with paths from the top of the repository or below app/slackwater."""

OPEN_TO_ALL = {"errors", "kit", "settings", "telemetry"}
PARTS_OF_MAIN = {"lifespan", "services"}

FILE_OR_FOLDER = re.compile(r"`(\w[\w.-]*/[\w./-]*|[\w-]+\.(?:py|toml|sql))`")


@pytest.mark.parametrize("document", MAPS, ids=str)
def test_files_and_folders_that_are_named_are_there(document: Path) -> None:
    named = FILE_OR_FOLDER.findall(prose_of(document))

    assert named
    assert [name for name in named if not any((top / name).exists() for top in (ROOT, APP))] == []


@pytest.mark.parametrize("walk", ["A run", "A stop", "A Lambda event"])
def test_a_walk_is_a_list_of_files_and_of_what_happens_there(walk: str) -> None:
    text = text_of(ARCHITECTURE).partition(f"## {walk}\n")[2].partition("\n## ")[0]
    steps = re.findall(r"^\d+\. (.+)$", text, re.M)

    assert len(steps) > 5
    for step in steps:
        assert re.fullmatch(r"`[\w/]+\.py`: .+\.", step), step


def room_of(module: str) -> str | None:
    """The room that a module is in, as the picture calls it; None for what is in none."""
    package, *parts = module.split(".")
    if package == HANDLER.name:
        return package
    if package != APP.name or not parts or parts[0].startswith("__"):
        return None
    if parts[0] == "runtime" and (APP / "runtime" / "".join(parts[1:2])).is_dir():
        return parts[1] if len(parts) > 1 else None
    return "main" if parts[0] in PARTS_OF_MAIN else parts[0]


def imports_of(module: Path) -> Iterator[str]:
    """What a module imports, whenever it does, but for what only a type checker reads."""
    todo: list[ast.AST] = [ast.parse(module.read_text())]
    while todo:
        match node := todo.pop():
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                todo += node.orelse
                continue
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(source), names=names):
                yield from (f"{source}.{name.name}" for name in names)
        todo += ast.iter_child_nodes(node)


def imports_between_rooms() -> Iterator[tuple[str, str, str]]:
    """The room of a module, the module below app/slackwater, and another room that it imports."""
    for package in (APP, HANDLER):
        for file in package.rglob("*.py"):
            name = ".".join(file.relative_to(package.parent).with_suffix("").parts)
            room = room_of(name.removesuffix(".__init__"))
            for imported in map(room_of, imports_of(file)):
                if room and imported and imported not in (room, *OPEN_TO_ALL):
                    yield room, str(file.relative_to(package)), imported


def arrows() -> set[tuple[str, str]]:
    """The arrows of the picture."""
    picture = blocks(ARCHITECTURE, "mermaid")[0]
    return set(re.findall(r'^ *(\w+)(?:\[".+?"\])? --> (\w+)', picture, re.M))


def leads_to(room: str) -> set[str]:
    """Where the arrows lead from a room, one after the other."""
    found, todo = set[str](), [room]
    while todo:
        here = todo.pop()
        new = {target for source, target in arrows() if source == here} - found
        found |= new
        todo += new
    return found


def against_the_arrows() -> set[tuple[str, str]]:
    """The modules that the page says import against the arrows, and which room."""
    text = text_of(ARCHITECTURE).partition("against the arrows")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([\w/]+\.py)` \| `(\w+)` \|", text, re.M))


def test_the_picture_has_every_room() -> None:
    rooms = {
        room_of(".".join(path.relative_to(package.parent).with_suffix("").parts))
        for package in (APP, HANDLER)
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    } - {None, *OPEN_TO_ALL}

    assert {room for arrow in arrows() for room in arrow} - {"settings"} == rooms


def test_the_arrows_of_the_picture_are_imports_and_lead_one_way() -> None:
    imports = {(room, imported) for room, _, imported in imports_between_rooms()}

    assert arrows() - imports == set()
    assert [room for room, _ in arrows() if room in leads_to(room)] == []


def test_what_is_imported_lies_where_the_arrows_lead() -> None:
    strays = {
        (module, imported)
        for room, module, imported in imports_between_rooms()
        if imported not in leads_to(room)
    }

    assert strays == against_the_arrows()


def test_the_picture_has_the_layers_that_import_linter_holds() -> None:
    contracts = tomllib.loads(text_of(Path("pyproject.toml")))["tool"]["importlinter"]["contracts"]
    layers = next(
        contract["layers"] for contract in contracts if contract.get("containers") == ["slackwater.runtime"]
    )

    assert set(pairwise(layers)) <= arrows()


@pytest.mark.parametrize("package", ["app", "handler"])
def test_every_room_says_in_one_line_what_it_holds(package: str) -> None:
    for file in (ROOT / package).rglob("__init__.py"):
        first = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]
        assert first.endswith((".", ":", "`.")), file


def test_the_map_of_the_tests_has_every_folder() -> None:
    folders = {
        f"{path.parent.relative_to(ROOT)}/"
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.parent != ROOT / "tests"
    }

    assert folders - set(FILE_OR_FOLDER.findall(text_of(Path("tests/README.md")))) == set()
