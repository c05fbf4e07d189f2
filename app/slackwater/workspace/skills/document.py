"""SKILL.md: a text whose front matter says what it is called and what it is for. Pure.

Front matter is YAML, of which this reads what skills use: texts at the top, plain, quoted, or in a block. The rest is left out. A
parser of all of YAML takes a minute for a few thousand brackets, and what it reads here comes from whoever wants to send it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from slackwater.errors import BadRequest

FILE = "SKILL.md"

DOCUMENT_BYTES = 65_536
"""The largest SKILL.md: a model reads all of it."""
FILE_BYTES = 1024 * 1024
"""The largest file beside it."""
FRONT_MATTER_CHARACTERS = 8192
DESCRIPTION_CHARACTERS = 1024
NAME_CHARACTERS = 64

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
RESERVED = frozenset({"custom", "install"})
"""Paths of other routes."""

KEYS = ("name", "description", "license")

_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class InvalidSkill(BadRequest):
    """SKILL.md must begin with front matter: a line of three hyphens, YAML with a name and a description, and three hyphens again."""


@dataclass(frozen=True, slots=True)
class Document:
    """A SKILL.md."""

    name: str
    description: str
    license: str | None
    content: str
    """All of it."""


def is_name(name: str) -> bool:
    """Whether a skill can be called that."""
    return len(name) <= NAME_CHARACTERS and bool(NAME.fullmatch(name)) and name not in RESERVED


def read_document(content: str) -> Document:
    """What a SKILL.md says of itself. Raises InvalidSkill."""
    if len(content.encode()) > DOCUMENT_BYTES:
        raise InvalidSkill(
            f"{FILE} may have {DOCUMENT_BYTES} bytes: move what is rarely needed to files beside it."
        )
    found = _FRONT_MATTER.match(content)
    if found is None or "\0" in content:
        raise InvalidSkill
    said = _front_matter(found[1])
    name, description, license_ = (said.get(key, "") for key in KEYS)
    if not is_name(name):
        raise InvalidSkill(
            f"{FILE}: name must be at most {NAME_CHARACTERS} lower-case letters, digits and single hyphens in between."
        )
    if not description:
        raise InvalidSkill(f"{FILE}: description is missing.")
    if len(description) > DESCRIPTION_CHARACTERS or "<" in description or ">" in description:
        raise InvalidSkill(
            f"{FILE}: description may have {DESCRIPTION_CHARACTERS} characters, and no angle brackets."
        )
    if not all(character.isprintable() or character in "\n\t" for character in description + license_):
        raise InvalidSkill(
            f"{FILE}: description and license must be printable."
        )  # escapes name any character
    if len(license_) > DESCRIPTION_CHARACTERS:
        raise InvalidSkill(f"{FILE}: license may have {DESCRIPTION_CHARACTERS} characters.")
    return Document(name, description, license_ or None, content)


def _front_matter(text: str) -> dict[str, str]:
    """The texts of KEYS. Raises InvalidSkill."""
    if len(text) > FRONT_MATTER_CHARACTERS:
        raise InvalidSkill(f"{FILE}: the front matter may have {FRONT_MATTER_CHARACTERS} characters.")
    entries: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if found := _KEY.match(line):
            if found[1] in entries:
                raise InvalidSkill(f"{FILE}: the front matter has {found[1]} twice.")
            entries[found[1]] = lines = [found[2]]
        elif not entries and line.strip() and not line.startswith("#"):
            raise InvalidSkill
        else:
            lines.append(line)
    return {key: _text(key, entries[key]) for key in KEYS if key in entries}


_KEY = re.compile(r"""["']?([A-Za-z][\w-]*)["']?[ ]*:(?:[ \t]+(.*)|)\Z""")
_BLOCK = re.compile(r"([>|])[+-]?[1-9]?[+-]?(?:[ \t]+#.*)?")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_QUOTED = re.compile(r"""(["'])(.*)\1[ \t]*(?:[ \t]#.*)?""", re.DOTALL)


def _text(key: str, lines: list[str]) -> str:
    """The value that begins on the line of its key, and may go on below it. Raises InvalidSkill."""
    first, rest = (lines[0] or "").strip(), lines[1:]
    if block := _BLOCK.fullmatch(first):
        return (" " if block[1] == ">" else "\n").join(line.strip() for line in rest).strip()
    whole = " ".join(line.strip() for line in (first, *rest)).strip()
    if whole.startswith(("'", '"')):
        quoted = _QUOTED.fullmatch(whole)
        if quoted is None:
            raise InvalidSkill(f"{FILE}: the quotes of {key} do not end.")
        return _unquoted(key, quoted[1], quoted[2])
    if whole.startswith(("[", "{", "- ", "&", "*", "!", "%", "@", "`")):
        raise InvalidSkill(f"{FILE}: {key} must be a text: put it in quotes.")
    whole = " ".join(_COMMENT.sub("", line).strip() for line in (first, *rest)).strip()
    return "" if whole in ("~", "null", "Null", "NULL") else whole


def _unquoted(key: str, quote: str, text: str) -> str:
    if quote == "'":
        return text.replace("''", "'").strip()
    try:
        # Nearly all that YAML has between such quotes JSON has, too.
        said: str = json.loads(f'"{text}"', strict=False)
    except ValueError:
        raise InvalidSkill(f"{FILE}: the quotes of {key} have an escape that is not understood.") from None
    return said.strip()
