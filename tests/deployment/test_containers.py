"""The Dockerfiles and the manifests in docs/containers.md say what the server needs; `python -m tests.images` runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from slackwater.settings import Settings
from tests.deployment.templates import ROOT

TEXT = (ROOT / "docs" / "containers.md").read_text()
GRACE = Settings.model_fields["grace_seconds"].default


def manifests() -> list[dict[str, Any]]:
    return [
        part
        for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
        for part in yaml.safe_load_all(block)
    ]


def of_kind(kind: str) -> dict[str, Any]:
    return next(part for part in manifests() if part["kind"] == kind)


def deployment() -> dict[str, Any]:
    pod: dict[str, Any] = next(part for part in manifests() if part["kind"] == "Deployment")["spec"][
        "template"
    ]
    return pod["spec"]


def task() -> dict[str, Any]:
    definition = json.loads(re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)[0])
    container: dict[str, Any] = definition["containerDefinitions"][0]
    return container


def last_stage(dockerfile: str) -> list[str]:
    """The instructions of the image itself."""
    text = (ROOT / dockerfile).read_text().rpartition("\nFROM ")[2]
    return [line for line in text.replace("\\\n", " ").splitlines()[1:] if line and not line.startswith("#")]


def test_kubernetes_waits_longer_than_the_server_takes() -> None:
    pod = deployment()
    settings = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}

    assert pod["terminationGracePeriodSeconds"] > float(settings["SLACKWATER_GRACE_SECONDS"]) == GRACE


def test_ecs_waits_longer_than_the_server_takes() -> None:
    settings = {item["name"]: item["value"] for item in task()["environment"]}

    assert task()["stopTimeout"] > float(settings["SLACKWATER_GRACE_SECONDS"]) == GRACE


def test_probes_ask_what_there_is_without_a_key() -> None:
    container = deployment()["containers"][0]

    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/ok"
    assert "lifecycle" not in container


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_are_not_root(kind: str) -> None:
    assert of_kind(kind)["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]


def test_the_ports_are_those_of_the_image() -> None:
    lines = last_stage("Dockerfile")

    assert "EXPOSE 8000" in lines
    assert any("SLACKWATER_PORT=8000" in line for line in lines)
    assert deployment()["containers"][0]["ports"][0]["containerPort"] == 8000
    assert task()["portMappings"][0]["containerPort"] == 8000


def test_the_container_image_is_not_root_and_gets_the_signal() -> None:
    lines = last_stage("Dockerfile")

    assert "STOPSIGNAL SIGTERM" in lines
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", "\n".join(lines), re.M)


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.lambda"])
def test_no_shell_is_in_front(dockerfile: str) -> None:
    words = [line.split(" ", 1) for line in last_stage(dockerfile) if line.startswith(("ENTRYPOINT", "CMD"))]

    assert [instruction for instruction, _ in words] == ["ENTRYPOINT", "CMD"]
    assert "sh" not in [part for _, argument in words for part in json.loads(argument)]


def test_the_lambda_image_lets_signals_through() -> None:
    assert any("AWS_EXECUTION_ENV=AWS_Lambda_python3.13" in line for line in last_stage("Dockerfile.lambda"))


def test_secrets_cannot_get_into_an_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    everything, asked_for, kept_out = lines.index("*"), lines.index("!app"), lines.index("**/.env")

    assert everything < asked_for < kept_out


def test_what_the_images_need_is_in_the_context() -> None:
    asked_for = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }

    assert {"app", "handler", "scripts", "examples", "pyproject.toml", "uv.lock"} == asked_for
    assert all((ROOT / name).exists() for name in asked_for)


def test_both_images_can_be_built_without_a_registry() -> None:
    for dockerfile in ("Dockerfile", "Dockerfile.lambda"):
        stages = re.findall(r"^FROM (\S+)", (ROOT / dockerfile).read_text(), re.M)
        assert set(stages) == {"${BASE}"}, dockerfile


def test_the_document_names_files_that_there_are() -> None:
    for name in re.findall(
        r"`((?:events|scripts|handler)/[\w./]+)`", (ROOT / "docs" / "deploying.md").read_text()
    ):
        assert (ROOT / name).exists(), name
    assert Path(ROOT / "template-image.yaml").exists()
