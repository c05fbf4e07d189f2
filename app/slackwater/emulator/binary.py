"""Finds the Runtime Interface Emulator: AWS ships its binary in the package aws-sam-cli."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from slackwater.errors import StartError

VARIABLE = "SLACKWATER_LAMBDA_RIE"
INSTALL = "uv pip install aws-sam-cli awslambdaric"

_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


class EmulatorError(StartError):
    """The Lambda emulator does not start: run `uv pip install aws-sam-cli awslambdaric`."""


def find() -> Path:
    """The emulator, ready to be executed. Raises EmulatorError, which says what to install."""
    if find_spec("awslambdaric") is None:
        raise EmulatorError(f"The runtime client awslambdaric is not installed: run `{INSTALL}`.")
    if given := os.environ.get(VARIABLE):
        binary = Path(given).resolve()
        if not os.access(binary, os.X_OK) or binary.is_dir():
            raise EmulatorError(f"{VARIABLE}: {binary} is not an executable program.")
        return binary
    return _executable(_packaged())


def _packaged() -> Path:
    architecture = _ARCHITECTURES.get(platform.machine().lower())
    if sys.platform != "linux" or architecture is None:
        raise EmulatorError(
            f"The emulator runs on Linux only, not on {sys.platform} {platform.machine()}: use `sam local start-api`, "
            "which needs Docker."
        )
    package = find_spec("samcli")
    if package is None or package.origin is None:
        raise EmulatorError(
            f"The Lambda emulator is not installed: run `{INSTALL}`, or set {VARIABLE} to an aws-lambda-rie."
        )
    binary = Path(package.origin).parent / "local" / "rapid" / f"aws-lambda-rie-{architecture}"
    if not binary.is_file():
        raise EmulatorError(
            f"This aws-sam-cli has no {binary.name}: run `{INSTALL} --upgrade`, or set {VARIABLE} to an aws-lambda-rie."
        )
    return binary


def _executable(binary: Path) -> Path:
    """The binary, or an executable copy in the user's cache: installers may drop the permission to execute."""
    if os.access(binary, os.X_OK):
        return binary
    content = binary.stat()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slackwater"
    copy = cache / f"{binary.name}-{content.st_size}-{content.st_mtime_ns}"
    try:
        if not copy.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            unfinished = cache / f"{copy.name}.{os.getpid()}"
            shutil.copyfile(binary, unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(copy)
    except OSError as error:
        raise EmulatorError(
            f"The emulator cannot be copied to {cache} ({error.strerror}): set {VARIABLE} to an executable copy of {binary}."
        ) from None
    return copy
