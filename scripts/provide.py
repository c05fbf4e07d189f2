"""Installs what tests need besides Python packages: Debian's pgbouncer, a headless Chromium, Node and its packages.

Installed where that takes no questions; tests whose part is missing are skipped, and in CI they fail. By hand:
python3 scripts/provide.py
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "tests" / "browser"
"""Where package.json and package-lock.json are."""
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Programs that can show the page, the smallest first, which is the one to install."""
NODE_VERSION = 20
INSTALL_SECONDS = 300


class Providing:
    """Installs what is missing in the background."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=provide, name="provide", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until everything is installed or reported as missing."""
        self._thread.join()


def provide() -> None:
    """Install what is missing. Prints a sentence for each thing that cannot be installed."""
    wanted = [] if pgbouncer() else ["pgbouncer"]
    wanted += [] if chromium() else [BROWSERS[0]]
    wanted += [] if shutil.which("npm") else ["nodejs", "npm"]
    if wanted:
        install(wanted)
    if node_modules().exists():
        return
    npm = shutil.which("npm")
    if npm is None or node() is None:
        print(
            f"There is no npm with Node {NODE_VERSION} or newer: the tests that need it are skipped.",
            flush=True,
        )
    else:
        install_node_modules(npm)


def pgbouncer() -> str | None:
    """The path of pgbouncer, which Debian installs in a folder that only root has on its path."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def chromium() -> str | None:
    """A browser of the Chromium family."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def node() -> str | None:
    """Node, if it is new enough for Playwright."""
    found = shutil.which("node")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60).stdout
    version = re.match(r"v(\d+)\.", said)
    return found if version and int(version[1]) >= NODE_VERSION else None


def node_modules() -> Path:
    """The folder for the packages of package-lock.json; each version of the lock has its own."""
    parts = [
        platform.machine(),
        *((PACKAGES / name).read_text() for name in ("package.json", "package-lock.json")),
    ]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return ROOT / ".test" / f"npm-{key}" / "node_modules"


def install(names: list[str]) -> None:
    """Install Debian's packages."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        print(f"Nobody here can install {', '.join(names)}: the tests that need it are skipped.", flush=True)
        return
    print(f"Installing {', '.join(names)}", flush=True)
    # RUNLEVEL=1 keeps Debian from starting services that it installs: tests start what they need.
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *names]):
        if problem := _problem([apt, "-qq", *command], environ):
            print(f"{problem}\nThe tests that need {', '.join(names)} are skipped.", flush=True)
            return


def install_node_modules(npm: str) -> None:
    """Install the packages of package-lock.json, all or nothing. Their own scripts do not run."""
    # Where it really is: npm takes a folder that a link leads to for a package of its own.
    folder = node_modules().parent
    folder = folder.parent.resolve() / folder.name
    print("Installing the npm packages of tests/browser", flush=True)
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    making.mkdir(parents=True)
    (folder.parent / ".gitignore").write_text("*\n")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, making)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--prefix", str(making)]
    if problem := _problem([npm, "ci", *options], dict(os.environ)):
        shutil.rmtree(making, ignore_errors=True)
        print(f"{problem}\nThe tests that need a browser or the JavaScript client are skipped.", flush=True)
        return
    for old in folder.parent.glob("npm-*"):
        if old != making:
            shutil.rmtree(old, ignore_errors=True)
    making.rename(folder)


def _problem(command: list[str], environ: dict[str, str]) -> str | None:
    """The output of the command if it failed, else None."""
    try:
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"{Path(command[0]).name} did not end within {INSTALL_SECONDS} s."
    return done.stdout[-1000:] if done.returncode else None


if __name__ == "__main__":
    provide()
