"""Nothing of ours shadows the project's: one with packages of the same names is served, however the server is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import namesakes
from tests.support.command import run_command
from tests.support.namesakes import Place
from tests.support.server import ROOT

WAYS = (
    # Each command with the folder that it is started in. `elsewhere` has packages of the same names, too.
    ("slackwater serve --port {port}", "elsewhere"),
    ("python -m slackwater serve --port {port}", "project"),
    ("python -m slackwater serve --port {port}", "elsewhere"),
    ("uvicorn slackwater.main:app --port {port}", "project"),
    ("uvicorn slackwater.main:app --port {port}", "elsewhere"),
    ("slackwater lambda --port {port} --environments 1 --schedule-seconds 0", "elsewhere"),
)


@pytest.fixture
def place(tmp_path: Path, database_uri: str) -> Place:
    return Place(tmp_path, database_uri)


@pytest.mark.parametrize(("words", "folder"), WAYS)
async def test_a_project_with_packages_of_the_same_names_is_served(
    place: Place, words: str, folder: str
) -> None:
    found = await place.served(words, getattr(place, folder))

    assert found == namesakes.own(place.project, ROOT / "app")


def test_the_doctor_imports_it_too(place: Place) -> None:
    answer = run_command(
        *(place.elsewhere, "doctor", "--project", place.project, "--json"),
        SLACKWATER_DATABASE_URI=place.database_uri,
    )

    found = {finding["about"]: finding["level"] for finding in answer.json}
    assert (found["graphs"], found["http"]) == ("ok", "ok")
