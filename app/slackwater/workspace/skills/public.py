"""Public skills: those in the project's folder, read once. They change with the project, when it is deployed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slackwater.errors import SettingsError
from slackwater.workspace.skills.document import DOCUMENT_BYTES, FILE, Document, InvalidSkill, read_document

MOST_SKILLS = 1000


@dataclass(frozen=True, slots=True)
class PublicSkill:
    """A skill of the project."""

    document: Document
    folder: Path


def read_public(root: Path) -> Mapping[str, PublicSkill]:
    """The skills below a folder, by name: of `public` in it, if there is one, as DeerFlow has it. Raises SettingsError."""
    found: dict[str, PublicSkill] = {}
    top = root / "public" if (root / "public").is_dir() else root
    for place, folders, files in os.walk(top):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        if FILE not in files:
            continue
        folders.clear()  # what is inside of a skill belongs to it
        file = Path(place, FILE)
        document = _read(file)
        if document.name in found:
            raise SettingsError(f"gateway.skills: {file}: there is another skill named {document.name}.")
        found[document.name] = PublicSkill(document, file.parent)
        if len(found) > MOST_SKILLS:
            raise SettingsError(f"gateway.skills: there are more than {MOST_SKILLS} skills.")
    return found


def shown(row: Mapping[str, Any], public: Mapping[str, PublicSkill]) -> dict[str, Any]:
    """A skill as pages and graphs see it, from its row: what a public one says of itself is in the project."""
    if row["category"] == "custom":
        description, licence = row["description"], row["license"]
    else:
        document = public[row["name"]].document
        description, licence = document.description, document.license
    return {
        "name": row["name"],
        "description": description,
        "license": licence,
        "category": row["category"],
        "enabled": row["enabled"],
    }


def _read(file: Path) -> Document:
    try:
        with file.open("rb") as opened:
            return read_document(opened.read(DOCUMENT_BYTES + 1).decode())
    except (InvalidSkill, OSError, ValueError) as error:
        raise SettingsError(f"gateway.skills: {file}: {error}") from None
