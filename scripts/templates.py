"""Writes template-image.yaml, which is template.yaml for a container image: python -m scripts.templates

Text is replaced in text: what reads and writes YAML loses the comments.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = ROOT / "template.yaml"
IMAGE = ROOT / "template-image.yaml"

CHANGES = (
    (
        "# docs/deploying.md explains every parameter. template-image.yaml is this file for a container image.\n",
        "# template.yaml for a container image (Dockerfile.lambda): the same but for how the functions are packed, and without\n"
        "# SnapStart, which images cannot have. Generated: change template.yaml, then run `.test/venv/bin/python -m scripts.templates`.\n",
    ),
    (" Architecture, SnapStart,", " Architecture,"),
    (' "ARCHITECTURE=x86_64 sam build" builds for the other one.', ""),
    (
        """\
  SnapStart:
    Type: String
    Default: None
    AllowedValues: [None, PublishedVersions]
    Description: Start environments from a snapshot. It is of the published version, which the alias "live" names.
""",
        "",
    ),
    (
        """\
      SnapStart:
        ApplyOn: !Ref SnapStart
""",
        "",
    ),
    (
        """\
      BuildMethod: makefile
    Properties:
      CodeUri: .
      Runtime: python3.13
      Handler: slackwater_lambda.main.lambda_handler
""",
        """\
      Dockerfile: Dockerfile.lambda
      DockerContext: .
      DockerTag: api
    Properties:
      PackageType: Image
""",
    ),
    (
        """\
      BuildMethod: makefile
    Properties:
      CodeUri: .
      Runtime: python3.13
      Handler: slackwater_lambda.streaming
""",
        """\
      Dockerfile: Dockerfile.lambda
      DockerContext: .
      DockerTag: streaming
    Properties:
      PackageType: Image
      ImageConfig:
        EntryPoint: [python3, -m, slackwater_lambda.streaming]
""",
    ),
    (
        """\
          # The managed runtime cannot stream. This script puts handler/slackwater_lambda/streaming.py in its place.
          AWS_LAMBDA_EXEC_WRAPPER: /var/task/slackwater_lambda/bootstrap.sh
""",
        "",
    ),
)
"""Texts of template.yaml, each of which it has once, and their replacements for an image."""


def image(archive: str) -> str:
    """The template for an image. Raises ValueError unless each text to replace is there exactly once."""
    for old, new in CHANGES:
        if archive.count(old) != 1:
            raise ValueError(f"{ARCHIVE.name} has this {archive.count(old)} times, and not once:\n{old}")
        archive = archive.replace(old, new)
    return archive


if __name__ == "__main__":
    IMAGE.write_text(image(ARCHIVE.read_text()))
