"""`slackwater invoke`, and what both commands say when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator.test_gateway import HANDLER, SETTINGS
from tests.support.command import run_command
from tests.support.server import ROOT


def test_invoke_prints_the_result(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text('{"do": "echo", "tide": "ebb"}')

    answer = run_command(
        tmp_path, "invoke", "-e", "event.json", "--project", ROOT / "tests/graphs", *HANDLER, **SETTINGS
    )

    assert answer.json["event"] == {"do": "echo", "tide": "ebb"}


def test_invoke_says_why_the_function_has_failed(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text('{"do": "fail"}')

    answer = run_command(
        tmp_path, "invoke", "-e", "event.json", "--project", ROOT / "tests/graphs", *HANDLER, **SETTINGS
    )

    assert answer.code == 1
    assert answer.err.endswith("slackwater: The function failed with LookupError: no such tide\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("invoke", "-e", "none.json"), "none.json cannot be read: No such file or directory."),
        (("invoke", "-e", "broken.json"), "broken.json, line 1"),
        (("invoke", "-e", "event.json", "--env", "TIDE"), "--env TIDE: the variable is not set"),
        (("lambda", "--port", "0", "--queue-url", "http://127.0.0.1:1/q"), "set AWS_ENDPOINT_URL_SQS"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "event.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")

    answer = run_command(tmp_path, *arguments, "--project", ROOT / "tests/graphs", **SETTINGS)

    assert answer.code == 2
    assert sentence in answer.sentence


def test_an_emulator_that_is_none_is_named(tmp_path: Path) -> None:
    answer = run_command(
        tmp_path,
        *("lambda", "--port", "0", "--project", ROOT / "tests/graphs"),
        **SETTINGS,
        SLACKWATER_LAMBDA_RIE=str(tmp_path / "none"),
    )

    assert answer.code == 2
    assert "SLACKWATER_LAMBDA_RIE" in answer.sentence
