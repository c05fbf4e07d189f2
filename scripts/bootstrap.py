"""A private virtual environment with the versions of uv.lock, made with nothing but Python and pip.

The demo and the tests begin here, so this file needs no package, and an old Python can read it far enough to say
that it is too old.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDS = (3, 11)
_PACKAGE = re.compile(r"(?:\S*/)?([\w.-]+?)(?=-\d|[^\w.-]|$)")
"""The name of a package, in a requirement or at the beginning of a file's name."""
BEAT_SECONDS = 10.0
"""How often to print a line of progress without a terminal, where no line can be overwritten."""


def environment(folder: Path, groups: tuple[str, ...] = ()) -> Path:
    """The Python of the virtual environment `folder`, with the project and its dependency `groups` installed.

    Makes it if it is missing or if anything that decides its contents has changed. Leaves the process with a
    sentence when that does not work.
    """
    need_python()
    python = folder / "bin" / "python"
    stamp, wanted = folder / "slackwater.stamp", _fingerprint(folder, groups)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    began = time.monotonic()
    _say(f"Setting up {_short(folder)}: once, about a minute")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    (folder.parent / ".gitignore").write_text("*\n")
    log = folder.parent / "setup.log"
    log.write_text("")
    _install(_create(folder, python, log), folder, groups, log)
    # Which pip does on one core. What cannot be compiled is a template, or of another Python.
    _quiet([str(python), "-m", "compileall", "-q", "-j", "0", str(folder / "lib")], log)
    stamp.write_text(wanted)
    _say(f"Set up in {time.monotonic() - began:.0f} s")
    return python


def need_python() -> None:
    """Continue with a Python that is new enough: this one, or another one on the path. Does not return otherwise."""
    if sys.version_info >= NEEDS:
        return
    for minor in range(14, NEEDS[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other:
            os.execv(other, [other, *sys.argv])  # noqa: S606 - nor is a shell wanted
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(f"This needs Python {NEEDS[0]}.{NEEDS[1]} or newer, and {sys.executable} is Python {found}.")


def _fingerprint(folder: Path, groups: tuple[str, ...]) -> str:
    """A hash of everything that determines the environment. Its path counts, too: scripts in it name their Python."""
    parts = [sys.version, sys.executable, str(folder), *groups]
    parts += [(ROOT / name).read_text() for name in ("pyproject.toml", "uv.lock")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _create(folder: Path, python: Path, log: Path) -> list[str]:
    """Create an environment with nothing but the locked pip; the command that installs into it.

    Older ones take three times as long to find the same files.
    """
    pip = _create_empty(folder, python, log)
    options = ["--no-input", "--disable-pip-version-check", "--no-deps"]
    locked = _locked_in(folder / "pip.txt", _requirements(("setup",)))
    if not _quiet([*pip, "install", *options, *locked], log):
        _fail("pip could not install the version of itself that is wanted: is there a network?", log)
    return [str(python), "-m", "pip"]


def _create_empty(folder: Path, python: Path, log: Path) -> list[str]:
    """Create an empty environment; the pip command that installs into it."""
    if _quiet([sys.executable, "-m", "venv", str(folder)], log):
        return [str(python), "-m", "pip"]
    # Debian's Python has no ensurepip unless python3-venv is installed; its pip can serve another environment.
    shutil.rmtree(folder, ignore_errors=True)
    if not _quiet([sys.executable, "-m", "venv", "--without-pip", str(folder)], log):
        _fail("Python could not make a virtual environment. On Debian: apt-get install python3-venv.", log)
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    if not _quiet([*pip, "--version"], log):
        _fail("There is no pip. On Debian: apt-get install python3-venv.", log)
    return pip


def _install(pip: list[str], folder: Path, groups: tuple[str, ...], log: Path) -> None:
    """Packages by the hashes of uv.lock; then the project, built by what has been installed so."""
    import tomllib  # not in a Python that is too old

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*declared["project"]["dependencies"], *declared["build-system"]["requires"]]
    options = [
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "--no-compile",
        "--no-deps",
    ]
    progress = _Progress()
    for what in (
        _locked_in(folder / "requirements.txt", [*wanted, *_requirements(groups)]),
        ["--no-build-isolation", "-e", str(ROOT)],
    ):
        if not _show([*pip, "install", *options, *what], log, progress):
            _fail("pip could not install the packages.", log)


def _locked_in(file: Path, requirements: list[str]) -> list[str]:
    """pip's arguments for the requirements and all that they need, as `file` then has them."""
    from lock import hashed  # not in a Python that is too old

    file.write_text("\n".join(hashed(requirements)) + "\n")
    return ["--require-hashes", "-r", str(file)]


def _show(command: list[str], log: Path, progress: _Progress) -> bool:
    """Run pip while it is shown what it does; whether it succeeded."""
    with log.open("a") as file:
        file.write("$ " + " ".join(command) + "\n")
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environ(),
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                progress.saw(line)
    progress.end()
    return process.returncode == 0


def locked() -> list[str]:
    """The versions of uv.lock, as constraints for pip."""
    import tomllib  # not in a Python that is too old

    versions: dict[str, list[str]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        if "registry" in package["source"]:
            versions.setdefault(package["name"], []).append(package["version"])
    # A package may be locked in several versions for several Pythons; pip then chooses by itself.
    return [f"{name}=={found[0]}" for name, found in versions.items() if len(found) == 1]


def _requirements(groups: tuple[str, ...]) -> list[str]:
    """The requirements of dependency groups. pip has `pip install --group` only since 25.1."""
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    wanted: list[str] = []
    for group in groups:
        for entry in declared[group]:
            wanted += [entry] if isinstance(entry, str) else _requirements((entry["include-group"],))
    return wanted


def _environ() -> dict[str, str]:
    """Our environment without variables that would redirect the installation or mix in other packages."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_PREFIX")
    environ = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**environ, "PIP_USER": "0"}


def _quiet(command: list[str], log: Path) -> bool:
    with log.open("a") as file:
        file.write("$ " + " ".join(command) + "\n")
        file.flush()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=_environ()
        )
    return done.returncode == 0


class _Progress:
    """Shows pip's progress in one line that is overwritten; without a terminal, in a few lines."""

    def __init__(self) -> None:
        self._collected = 0
        self._said = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def saw(self, line: str) -> None:
        """Take a line of pip's output."""
        if line.startswith(("Collecting ", "Processing ")):
            self._collected += 1
            found = _PACKAGE.match(line.split()[1])
            self._show(f"package {self._collected}: {found[1] if found else line.split()[1]}", always=False)
        elif line.startswith("Installing collected packages") and self._collected:
            self._show(f"{self._collected} packages: putting them in place", always=True)

    def end(self) -> None:
        """Finish the line."""
        self._collected = 0
        if self._terminal:
            print("\r\033[K", end="", flush=True)

    def _show(self, text: str, *, always: bool) -> None:
        if self._terminal:
            print(f"\r\033[K  {text}", end="", flush=True)
        elif always or time.monotonic() - self._said > BEAT_SECONDS:
            self._said = time.monotonic()
            print(f"  {text}", flush=True)


def _fail(sentence: str, log: Path) -> None:
    tail = "".join(log.read_text().splitlines(keepends=True)[-25:])
    sys.exit(f"{tail}\n{sentence} All of its output is in {_short(log)}.")


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _say(text: str) -> None:
    print(text, flush=True)
