"""Images by buildah, on a base of debootstrap's: what a Dockerfile says, carried out in a chroot."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".test" / "images"
"""Everything that is made, and kept for the next time."""

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
BASE = "localhost/slackwater-base"
UNNEEDED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


class MissingTool(Exception):
    """A program is missing that cannot be installed from here."""


def provide() -> None:
    """Install buildah and debootstrap if they are missing. Raises MissingTool."""
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if os.geteuid() != 0:
        raise MissingTool("building and entering images needs root here")
    if not missing:
        return
    apt = shutil.which("apt-get")
    if apt is None:
        raise MissingTool(f"there is no {' and no '.join(missing)}, and no apt-get to install it")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run([apt, "-qq", *command], env=environ, stdin=subprocess.DEVNULL, timeout=300)
        if done.returncode:
            raise MissingTool(f"apt-get cannot install {' and '.join(missing)}")


def base() -> None:
    """A Debian with Python and pip: what `python:3-slim` is elsewhere, where a registry can be reached."""
    if buildah("images", "--quiet", "--filter", f"reference={BASE}", check=False).strip():
        return
    container = buildah("from", "scratch").strip()
    try:
        root = Path(buildah("mount", container).strip())
        _run(
            "debootstrap",
            "--variant=minbase",
            "--include=python3,python3-pip,ca-certificates",
            SUITE,
            root,
            MIRROR,
        )
        for path in UNNEEDED:
            shutil.rmtree(root / path, ignore_errors=True)
        buildah("umount", container)
        buildah("commit", "--quiet", container, BASE)
    finally:
        buildah("rm", container)


@dataclass(frozen=True)
class Image:
    """An image and how it says that it is started."""

    name: str
    config: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.config.get("Env") or [])

    @property
    def command(self) -> list[str]:
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def user(self) -> str:
        return str(self.config.get("User") or "")

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """A container's file system of its own."""
        container = buildah("from", self.name).strip()
        try:
            yield Path(buildah("mount", container).strip())
        finally:
            buildah("umount", container)
            buildah("rm", container)


def image(name: str, dockerfile: str, project: str) -> Image:
    """Build a Dockerfile of the repository with `project` inside."""
    began = time.monotonic()
    _run(
        *_buildah(),
        *(
            "bud",
            "--quiet",
            "--isolation",
            "chroot",
            "--file",
            ROOT / dockerfile,
            "--tag",
            f"localhost/{name}",
        ),
        *("--build-arg", f"BASE={BASE}", "--build-arg", f"PROJECT={project}"),
        *_pip(),
        ROOT,
    )
    print(f"{dockerfile}: built in {time.monotonic() - began:.0f} s", flush=True)
    inspected = json.loads(buildah("inspect", "--type", "image", f"localhost/{name}"))
    return Image(f"localhost/{name}", inspected["Docker"]["config"])


def buildah(*words: object, check: bool = True) -> str:
    """Run buildah with a storage of our own; its output."""
    done = subprocess.run(
        [*_buildah(), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    if check and done.returncode:
        sys.exit(f"buildah {shlex.join(map(str, words))} failed:\n{done.stderr}")
    return done.stdout


def _buildah() -> list[str]:
    storage = ["--root", str(FOLDER / "storage"), "--runroot", str(FOLDER / "run")]
    return ["buildah", *storage, "--storage-driver", "overlay"]


def _pip() -> Iterator[object]:
    """A cache for both images; and this machine's settings, so that packages come from where they come from here."""
    cache = FOLDER / "pip"
    cache.mkdir(exist_ok=True)
    yield from ("--volume", f"{cache}:/root/.cache/pip")
    for place in (Path("/etc/pip.conf"), Path("/etc/ssl/certs/ca-certificates.crt")):
        if place.exists():
            yield from ("--volume", f"{place}:{place}:ro")


def _run(*words: object) -> None:
    """Run a program; what it prints is shown only when it fails."""
    command = list(map(str, words))
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-6000:]}\n{shlex.join(command)} failed with exit code {done.returncode}.")
    for line in done.stdout.splitlines():
        if line.startswith(("built size", "import time")):
            print(line, flush=True)
