"""A container as far as it matters here: an image's files, its command as PID 1, its user, its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.images.build import Image

ENTER = """
set -eu
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
root=$ROOT user=$OWNER folder=$FOLDER
unset ROOT OWNER FOLDER
exec chroot --userspec="$user" "$root" env --chdir="$folder" "$@"
"""


class Container:
    """A running command of an image."""

    def __init__(
        self, image: Image, root: Path, command: list[str], environ: Mapping[str, str], log: Path
    ) -> None:
        self.image, self.log = image, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", *shell(), *command],
                env={**entering(image, root, image.user), **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The outer number of what is PID 1 inside."""
        unshare = self._process.pid
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        return int(children[0])

    def status(self, field: str) -> list[str]:
        """A line of the process's `/proc/…/status`."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return next(line.split()[1:] for line in text.splitlines() if line.startswith(f"{field}:"))

    def command_line(self) -> list[str]:
        return Path(f"/proc/{self.pid}/cmdline").read_text().rstrip("\0").split("\0")

    def stop(self) -> None:
        """What the platform does: the image's stop signal to PID 1, and nothing else."""
        os.kill(self.pid, signal.Signals[self.image.config.get("StopSignal") or "SIGTERM"])

    def wait(self, timeout: float) -> int:
        """The exit code. Raises TimeoutExpired."""
        return self._process.wait(timeout)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, text: str, timeout: float = 60) -> None:
        """Wait until the log says it. Raises AssertionError."""
        deadline = time.monotonic() + timeout
        while text not in self.text():
            assert self._process.poll() is None, f"it has ended:\n{self.text()[-3000:]}"
            assert time.monotonic() < deadline, f"no {text!r}:\n{self.text()[-3000:]}"
            time.sleep(0.05)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def shell() -> list[str]:
    """Enters `$ROOT` and becomes the command that follows, in the same process."""
    return ["sh", "-c", ENTER, "enter"]


def entering(image: Image, root: Path, user: str) -> dict[str, str]:
    """The environment of `shell`: the image's own, and where to go."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **image.environment,
        "ROOT": str(root),
        "OWNER": user,
        "FOLDER": image.config.get("WorkingDir") or "/",
    }


@contextmanager
def run(
    image: Image, root: Path, log: Path, environ: Mapping[str, str], command: list[str] | None = None
) -> Iterator[Container]:
    """A container of the image, gone at the end."""
    container = Container(image, root, command or image.command, environ, log)
    try:
        yield container
    finally:
        container.kill()
