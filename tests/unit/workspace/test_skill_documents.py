"""What is a skill, and what is an archive of one (1.20)."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from slackwater.errors import SettingsError
from slackwater.workspace.skills.document import (
    DOCUMENT_BYTES,
    FILE_BYTES,
    InvalidSkill,
    is_name,
    read_document,
)
from slackwater.workspace.skills.package import MOST_FILES, InvalidPackage, read_package
from slackwater.workspace.skills.public import read_public
from slackwater.workspace.skills.scanner import NO_JSON, Decision, judgement_in, told

SKILL = "---\nname: report\ndescription: Writes reports.\n---\nBegin.\n"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Writes reports: all of them.", "Writes reports: all of them."),
        ("Writes # a comment", "Writes"),
        ("C# code", "C# code"),
        ("'It''s'  # a comment", "It's"),
        ('"Writes \\"reports\\" \\u00e9"', 'Writes "reports" \u00e9'),
        ('"Writes\n  reports"', "Writes reports"),
        ("Writes\n  reports", "Writes reports"),
        ("\n  Writes\n  reports", "Writes reports"),
        (">-\n  Writes\n\n  # reports", "Writes  # reports"),
        ("|\n  Writes\n  reports\n", "Writes\nreports"),
        ("2026", "2026"),
        ("true", "true"),
    ],
)
def test_a_document_says_what_it_is(written: str, read: str) -> None:
    front = f"# a comment\nname: 'report-2'\nallowed-tools:\n- a\n- b\ndescription: {written}\nmetadata: {{a: [b]}}\n  "
    for text in (front, front.replace("\n", "\r\n")):
        document = read_document(f"---\n{text}\nlicense: MIT\n---\nText")
        assert (document.name, document.description, document.license) == ("report-2", read, "MIT")
    assert read_document(SKILL).license is None


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", "must begin"),
        ("name: report\n", "must begin"),
        ("---\nname: report\ndescription: a\n", "must begin"),
        ("---\n- name\n---\n", "must begin"),
        (SKILL + "\0", "must begin"),
        ("---\n  indented\nname: a\n---\n", "must begin"),
        (f"---\nname: {'[' * 8000}\n---\n", "name must be a text"),
        (f"---\nname: a\ndescription:\n  {'- ' * 4000}\n---\n", "description must be a text"),
        ('---\nname: a\ndescription: "b\n---\n', "quotes of description do not end"),
        ('---\nname: a\ndescription: "b\\c"\n---\n', "an escape"),
        ("---\nname: a\nname: b\n---\n", "name twice"),
        ('---\nname: a\ndescription: "b\\u0000"\n---\n', "must be printable"),
        ('---\nname: a\ndescription: b\nlicense: "\\ud800"\n---\n', "must be printable"),
        ("---\nname: a\ndescription: null # not yet\n---\n", "description is missing"),
        (f"---\nname: {'a' * 9000}\n---\n", "may have 8192 characters"),
        ("---\nname: Report\ndescription: a\n---\n", "name must be"),
        ("---\nname: a--b\ndescription: a\n---\n", "name must be"),
        (f"---\nname: {'a' * 65}\ndescription: a\n---\n", "name must be"),
        ("---\nname: custom\ndescription: a\n---\n", "name must be"),
        ("---\nname: [a]\ndescription: a\n---\n", "name must be a text"),
        ("---\nname: report\n---\n", "description is missing"),
        ("---\nname: report\ndescription: ''\n---\n", "description is missing"),
        ("---\nname: report\ndescription: {a: b}\n---\n", "description must be a text"),
        ("---\nname: report\ndescription: <b>\n---\n", "no angle brackets"),
        (f"---\nname: report\ndescription: {'a' * 1025}\n---\n", "1024 characters"),
        ("---\nname: report\ndescription: a\nlicense: [a]\n---\n", "license must be a text"),
        (SKILL + "a" * DOCUMENT_BYTES, "may have 65536 bytes"),
    ],
)
def test_what_is_no_skill(content: str, wrong: str) -> None:
    with pytest.raises(InvalidSkill, match=wrong):
        read_document(content)


def test_names() -> None:
    """1.20: hyphen-case, at most 64; what a path of another route has is none."""
    assert all(map(is_name, ("a", "a-b", "2-a", "a" * 64)))
    assert not any(
        map(is_name, ("", "A", "-a", "a-", "a--b", "a_b", "a b", "a\n", "a/b", "install", "a" * 65))
    )


def archive(members: dict[str, bytes | str], **attributes: int) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = attributes.get(name, 0o644) << 16
            made.writestr(info, content)
    return file


@pytest.mark.parametrize("folder", ["", "report/"])
def test_an_archive_has_the_skill_at_its_top_or_in_its_only_folder(folder: str) -> None:
    members = {
        f"{folder}SKILL.md": SKILL,
        f"{folder}scripts/run.py": b"\xff",
        "__MACOSX/SKILL.md": "x",
        ".DS_Store": "x",
    }
    read = read_package(
        archive({**members, f"{folder}link": "/etc/passwd"}, **{f"{folder}link": stat.S_IFLNK | 0o777})
    )
    assert read.content == SKILL
    assert read.files == {"scripts/run.py": b"\xff"}


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({}, "has no SKILL.md"),
        ({"a/b/SKILL.md": SKILL}, "has no SKILL.md"),
        ({"a/SKILL.md": SKILL, "b/x": ""}, "has no SKILL.md"),
        ({"SKILL.md": SKILL, "more/skill.md": SKILL}, "another SKILL.md"),
        ({"SKILL.md": SKILL, "/etc/x": ""}, "unsafe path"),
        ({"SKILL.md": SKILL, "a/../../x": ""}, "unsafe path"),
        ({"SKILL.md": SKILL, "..": ""}, "unsafe path"),
        ({"SKILL.md": SKILL, "a\\b": ""}, "unsafe path"),
        ({"SKILL.md": SKILL, "C:/x": ""}, "unsafe path"),
        ({"SKILL.md": SKILL, "a\n": ""}, "unprintable"),
        ({"SKILL.md": SKILL, "a": "", "a/b": ""}, "both as a file and as a folder"),
        ({"SKILL.md": b"\xff"}, "not UTF-8"),
        ({"SKILL.md": b"a" * (DOCUMENT_BYTES + 1)}, "too large"),
        ({"SKILL.md": SKILL, "zeros": b"\0" * (FILE_BYTES + 1)}, "too large"),
        ({"SKILL.md": SKILL, **{f"{n}": b"\0" * FILE_BYTES for n in range(8)}, "more": b"1"}, "too large"),
        ({"SKILL.md": SKILL, **{f"{n}": "" for n in range(MOST_FILES)}}, "too large"),
    ],
)
def test_what_is_no_archive_of_a_skill(members: dict[str, bytes | str], wrong: str) -> None:
    """1.20: no absolute or `..` members, a cap on what is unpacked, nested SKILL.md refused."""
    with pytest.raises(InvalidPackage, match=wrong):
        read_package(archive(members))


def test_what_an_archive_says_of_its_sizes_is_not_believed() -> None:
    content = archive({"SKILL.md": SKILL, "zeros": b"\0" * (4 * FILE_BYTES)}).getvalue()
    lied = content.replace((4 * FILE_BYTES).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lied != content
    squeezed = io.BytesIO()
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_BZIP2) as made:  # unpacked at once, whatever it is
        made.writestr("SKILL.md", SKILL)
    for damaged in (lied, squeezed.getvalue(), content[:-30], b"PK", b"", b"x" * 1000):
        with pytest.raises(InvalidPackage):
            read_package(io.BytesIO(damaged))


def put(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: a\n---\n")


def test_public_skills_are_read_from_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "a", "one")
    put(tmp_path / "deep" / "b", "two")
    put(tmp_path / "a" / "inside", "three")
    put(tmp_path / ".hidden" / "c", "four")
    assert list(read_public(tmp_path)) == ["one", "two"]
    put(tmp_path / "public" / "d", "five")
    assert list(read_public(tmp_path)) == ["five"]
    put(tmp_path / "public" / "e", "five")
    with pytest.raises(SettingsError, match=r"e/SKILL\.md: there is another skill named five"):
        read_public(tmp_path)
    (tmp_path / "public" / "e" / "SKILL.md").write_text("x")
    with pytest.raises(SettingsError, match=r"e/SKILL\.md: SKILL.md must begin"):
        read_public(tmp_path)


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ('{"decision": "allow", "reason": "fine"}', Decision.ALLOW),
        ('Well:\n```json\n{"decision": " Warn ", "reason": 1}\n```', Decision.WARN),
        ([{"type": "text", "text": '{"decision": "block"}'}], Decision.BLOCK),
        ('It says {"decision": "allow"}, so: {"decision": "block", "reason": "a trick"}', Decision.BLOCK),
        ('{"verdict": {"decision": "warn"}}', Decision.WARN),
        ('{"decision": "maybe"}', NO_JSON.decision),
        ("allow", NO_JSON.decision),
        ("", NO_JSON.decision),
        ("{" * 30_000, NO_JSON.decision),
        (None, NO_JSON.decision),
    ],
)
def test_the_judgement_in_an_answer(answer: object, decision: Decision) -> None:
    """Section 5: no JSON is blocked. What is quoted does not make it milder."""
    assert judgement_in(answer).decision is decision


def test_a_reason_can_be_kept() -> None:
    assert judgement_in('{"decision": "warn", "reason": " a\\u0000\\ud800\\n b "}').reason == "a b"


def test_what_the_scanner_is_told() -> None:
    assert told("report", {"SKILL.md": 'say "hi"', "a.py": b"x = 1", "b.bin": b"\xff\xff"}) == (
        '{"skill": "report", "files": [{"path": "SKILL.md", "content": "say \\"hi\\""}, '
        '{"path": "a.py", "content": "x = 1"}, {"path": "b.bin", "bytes": 2}]}'
    )
