"""What an execution environment runs, and its environment variables."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

NAME = "slackwater"
HANDLER = "slackwater_lambda.main.lambda_handler"
STREAMING = "slackwater_lambda.streaming"
"""The module whose runtime client streams."""
REGION = "us-east-1"

_KEPT = ("HOME", "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Function:
    """A function, configured as in its template."""

    folder: Path
    """The working directory; on AWS, the unpacked package."""
    handler: str = HANDLER
    timeout_seconds: int = 60
    memory_mb: int = 1024
    """Reported to the function; the emulator does not enforce it."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Take precedence over all others."""
    name: str = NAME
    command: tuple[str, ...] | None = None
    """The command that runs as the runtime; by default `python -m awslambdaric HANDLER`."""

    def runtime(self) -> tuple[str, ...]:
        """The command line of the runtime."""
        return self.command or (sys.executable, "-m", "awslambdaric", self.handler)

    def environment(self) -> dict[str, str]:
        """All environment variables of the emulator, and through it of the function.

        They do not include the caller's: what works only because of a variable in somebody's shell fails on AWS.
        """
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        folders = [str(self.folder), *_roots(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        return {
            "HOME": "/tmp",  # noqa: S108 - the only folder that a function may write to
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **kept,
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, folders))),
            "PYTHONUNBUFFERED": "1",
            "LAMBDA_TASK_ROOT": str(self.folder),
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_seconds),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # Dummy credentials: a local function must not reach an account.
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            **self.variables,
        }


def _roots() -> Iterator[str]:
    """The folders that Slackwater's packages are imported from: a single one, except in a checkout."""
    for package in (HANDLER, __name__):
        spec = importlib.util.find_spec(package.partition(".")[0])
        if spec is not None and spec.origin is not None:
            yield str(Path(spec.origin).parents[1])
