"""What the documents say is so: settings, commands, links, exit codes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from slackwater.cli.root import cli
from slackwater.errors import ExitCode
from slackwater.kit.budget import Budget
from slackwater.runtime.process import drain
from slackwater.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md"))
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

    real = drain.report([], Budget.of(25, drain_reserve=2, hard_reserve=0.5), "SIGTERM")

    assert report.keys() == {"event", *real}
    assert report["runs"]
