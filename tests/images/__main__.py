"""Both images, really built and run: python -m tests.images

They are built by buildah in a chroot, on a base made by debootstrap, so that neither Docker nor a registry is needed.
One run goes through all of it: it starts in the Lambda image, is drained there by SIGTERM, goes on in the container
image, is drained by SIGTERM to PID 1, and ends under plain uvicorn. Where the tools cannot be installed the exit code
is 0 with a reason, and 1 with CI=true.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict

from slackwater.emulator import binary
from slackwater.identity.keys import new_key
from slackwater.postgres.embedded import EmbeddedPostgres
from tests.images import build, container
from tests.images.bridge import bridge
from tests.support import namesakes

EVENTS = build.ROOT / "events"
NAMESAKES = Path("/namesakes")
"""Where a second project is put into both images."""

SANDBOX = "993:990"
"""Whom Lambda runs a function as; it is not root there either."""

FUNCTION = {
    "AWS_LAMBDA_FUNCTION_NAME": "images",
    "AWS_LAMBDA_FUNCTION_TIMEOUT": "60",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_SESSION_TOKEN": "x",
}

_secret, _key = new_key("images")
HEADERS = {"x-api-key": _secret}
SETTINGS = {
    "SLACKWATER_API_KEYS": f"{_key.name}:{_key.sha256}",
    "DIGEST_OUT": "-",
    "DIGEST_WORDS_PER_SECOND": "15",
    "LANGSMITH_TRACING": "false",
}


class Images:
    """What is checked, in the order in which it happens."""

    def __init__(self, server: build.Image, function: build.Image, database_uri: str, logs: Path) -> None:
        self.server, self.function, self.logs = server, function, logs
        self.settings = {**SETTINGS, "SLACKWATER_DATABASE_URI": database_uri}
        self.run: dict[str, Any] = {}

    def check(self) -> None:
        self.says_how_it_is_run()
        # Before a run waits that this project has no graph for.
        with self.function.mounted() as root:
            self.any_packages_in_lambda(root)
        with self.server.mounted() as root:
            self.any_packages(root)
        with self.function.mounted() as root:
            self.lambda_image(root)
        with self.server.mounted() as root:
            self.migrates(root)
            self.closed_without_keys(root)
            self.container_image(root)
            self.plain_uvicorn(root)

    def says_how_it_is_run(self) -> None:
        config = self.server.config
        claim(
            config["Entrypoint"] == ["python3", "-m", "slackwater"], "the container image starts in exec form"
        )
        claim(self.server.user.partition(":")[0].isdigit(), "it has a user by number")
        claim(self.server.user.partition(":")[0] != "0", "who is not root")
        claim(config["StopSignal"] in ("SIGTERM", "15"), "it is stopped by SIGTERM")
        claim(
            self.function.command
            == ["python3", "-m", "awslambdaric", "slackwater_lambda.main.lambda_handler"],
            "the Lambda image starts the runtime client",
        )

    def any_packages_in_lambda(self, root: Path) -> None:
        """The function serves a project whose packages are called as folders of this repository are."""
        namesakes.project(root / NAMESAKES.name)
        settings = {**self.settings, "SLACKWATER_PROJECT": str(NAMESAKES)}
        with emulated(self.function, root, self.logs / "packages-lambda.log", settings) as function:
            function.invoke(event("migrate"))

            async def ask(method: str, path: str, content: Any) -> Any:
                return body(function.invoke(request(method, path, content)))

            found = asyncio.run(namesakes.imported(ask))
        wanted = namesakes.own(NAMESAKES, Path("/var/task"))
        claim(found == wanted, "the Lambda image serves a project with packages of any names", found)

    def any_packages(self, root: Path) -> None:
        """So does the container."""
        namesakes.project(root / NAMESAKES.name)
        port = free_port()
        settings = {**self.settings, "SLACKWATER_PROJECT": str(NAMESAKES), "SLACKWATER_PORT": str(port)}
        with container.run(self.server, root, self.logs / "packages.log", settings) as process:
            process.until("slackwater.ready url=")

            async def ask(method: str, path: str, content: Any) -> Any:
                url = f"http://127.0.0.1:{port}{path}"
                async with httpx.AsyncClient(headers=HEADERS, timeout=30, trust_env=False) as client:
                    return (await client.request(method, url, json=content)).json()

            found = asyncio.run(namesakes.imported(ask))
            process.stop()
            process.wait(30)
        wanted = namesakes.own(NAMESAKES, Path("/slackwater"))
        claim(found == wanted, "the container image serves a project with packages of any names", found)

    def lambda_image(self, root: Path) -> None:
        """The function in the emulator: `/ok`, and a run that SIGTERM drains."""
        with emulated(self.function, root, self.logs / "lambda.log", self.settings) as function:
            answer = function.invoke(event("migrate"))
            claim(answer.get("task") == "migrate", "the Lambda image migrates", answer)
            answer = function.invoke(request("GET", "/ok"))
            claim(answer.get("statusCode") == 200, "the Lambda image answers /ok", answer)
            thread = body(function.invoke(request("POST", "/threads", {})))
            start = request(
                "POST", f"/threads/{thread['thread_id']}/runs", {"assistant_id": "digest", "input": {}}
            )
            # The emulator answers when the extension has let go, which SIGTERM comes before.
            threading.Thread(target=function.invoke, args=(start,), name="caller", daemon=True).start()
            claim(until(self.is_worked_on), "a run starts")
            time.sleep(1)
            took = function.stop()
        text = (self.logs / "lambda.log").read_text(errors="replace")
        report = drain_report(text)
        claim(report is not None and report["reason"] == "SIGTERM", "SIGTERM drains it", text[-3000:])
        assert report is not None
        claim(report["took_ms"] < 450, f"within {report['took_ms']:.0f} ms", report)
        claim(len(report["runs"]) == 1 and report["runs"][0]["handed_over"], "its run is handed over", report)
        claim(took < 2, f"it is gone {took:.1f} s later")
        self.run = report["runs"][0]

    def migrates(self, root: Path) -> None:
        """The other commands are arguments."""
        command = [*self.server.config["Entrypoint"], "migrate"]
        with container.run(self.server, root, self.logs / "migrate.log", self.settings, command) as process:
            claim(process.wait(60) == 0, "the container image migrates", process.text())

    def closed_without_keys(self, root: Path) -> None:
        """Nobody serves beyond loopback by accident."""
        settings = {**self.settings, "SLACKWATER_API_KEYS": ""}
        with container.run(self.server, root, self.logs / "closed.log", settings) as process:
            code = process.wait(30)
            claim(
                code == 2 and "Without an API key" in process.text(),
                "without a key it refuses",
                process.text(),
            )

    def container_image(self, root: Path) -> None:
        """PID 1 serves, takes the run, and hands it over when it is stopped."""
        port = free_port()
        log = self.logs / "container.log"
        settings = {**self.settings, "SLACKWATER_PORT": str(port)}
        with container.run(self.server, root, log, settings) as process:
            process.until("slackwater.ready url=")
            claim(process.status("NSpid")[-1] == "1", "the server is PID 1 itself")
            claim(process.command_line()[-1] == "serve", "with no shell around it", process.command_line())
            claim(process.status("Uid")[0] == self.server.user.partition(":")[0], "it is not root")
            answer = get(port, "/ok")
            claim(answer.get("ok") is True, "the container image answers /ok", answer)
            claim(until(lambda: self.shown(port)["status"] == "running"), "it takes the run over")
            time.sleep(2)
            process.stop()
            began = time.monotonic()
            code = process.wait(30)
            claim(
                code == 0,
                f"SIGTERM to PID 1 ends it with exit code 0, {time.monotonic() - began:.1f} s later",
                code,
            )
            report = drain_report(process.text())
            claim(
                report is not None and [run["outcome"] for run in report["runs"]] == ["drained"],
                "its run was drained at a boundary",
                process.text()[-3000:],
            )

    def plain_uvicorn(self, root: Path) -> None:
        """`uvicorn slackwater.main:app` as PID 1 does the same."""
        port = free_port()
        command = [
            "python3",
            "-m",
            "uvicorn",
            "slackwater.main:app",
            "--host",
            "0.0.0.0",
            "--port",
            str(port),
        ]
        log = self.logs / "uvicorn.log"
        with container.run(self.server, root, log, self.settings, command) as process:
            claim(
                until(lambda: get(port, "/ok").get("ok") is True),
                "plain uvicorn serves as PID 1",
                process.text(),
            )
            claim(
                until(lambda: self.shown(port)["status"] == "success", 90),
                "the run ends there",
                process.text()[-3000:],
            )
            process.stop()
            code = process.wait(30)
            # Nobody but itself could kill PID 1 by the signal that uvicorn raises again at its end.
            claim(code in (0, 143), f"SIGTERM ends it with exit code {code}", process.text()[-3000:])
            claim(drain_report(process.text()) is not None, "after a drain", process.text()[-3000:])

    def is_worked_on(self) -> bool:
        with psycopg.connect(self.settings["SLACKWATER_DATABASE_URI"], autocommit=True) as connection:
            found = connection.execute("select 1 from slackwater.runs where status = 'running'").fetchone()
        return found is not None

    def shown(self, port: int) -> dict[str, Any]:
        found: dict[str, Any] = get(port, f"/threads/{self.run['thread_id']}/runs/{self.run['run_id']}")
        return found


# The emulator


class Emulated:
    """The Lambda image behind the Runtime Interface Emulator."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def invoke(self, payload: dict[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        try:
            answer: dict[str, Any] = httpx.post(url, json=payload, timeout=70, trust_env=False).json()
        except (httpx.HTTPError, ValueError) as error:
            return {"error": repr(error)}
        return answer

    def stop(self) -> float:
        """SIGTERM, which the emulator hands on as Lambda does; the seconds until it is gone."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)
        return time.monotonic() - began


@contextmanager
def emulated(image: build.Image, root: Path, log: Path, settings: dict[str, str]) -> Iterator[Emulated]:
    port, api = free_port(), free_port()
    environ = {
        **container.entering(image, root, SANDBOX),
        **settings,
        **FUNCTION,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "unshare",
                "--mount",
                str(binary.find()),
                *("--log-level", "warning"),
                *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
                *("--runtime-api-address", f"127.0.0.1:{api}"),
                *container.shell(),
                *image.command,
            ],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert until(lambda: listens(port))
        yield Emulated(process, port)
    finally:
        kill_session(process)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """The emulator and what it has started: its runtime has a process group of its own."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            session = int((folder / "stat").read_text().rpartition(") ")[2].split()[3])
        except OSError:
            continue  # gone meanwhile
        if session == process.pid:
            os.kill(int(folder.name), signal.SIGKILL)
    process.wait()


def event(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return content


def request(method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request as the HTTP API makes it, made of the one in `events/`."""
    made = event("http_api_ok" if content is None else "http_api_run")
    made["rawPath"] = made["requestContext"]["http"]["path"] = path
    made["requestContext"]["http"]["method"] = method
    made["headers"].update(HEADERS)
    if content is not None:
        made["body"] = json.dumps(content)
        made["headers"]["content-length"] = str(len(made["body"]))
    return made


def body(answer: dict[str, Any]) -> dict[str, Any]:
    claim(answer.get("statusCode") == 200, "a request is answered", answer)
    content: dict[str, Any] = json.loads(answer["body"])
    return content


# Looking


def drain_report(text: str) -> dict[str, Any] | None:
    """The last one in a log."""
    for line in reversed(text.splitlines()):
        if '"drain.report"' in line:
            found: dict[str, Any] = json.loads(line[line.index("{") :])
            return found
    return None


def get(port: int, path: str) -> Any:
    """The body of a GET; an empty object while nobody answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", headers=HEADERS, timeout=5, trust_env=False).json()
    except httpx.HTTPError:
        return {}


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def until(condition: Any, timeout: float = 40) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def claim(holds: bool, sentence: str, shown: object = "") -> None:
    """Say what holds; leave with what was seen where it does not."""
    if not holds:
        sys.exit(f"NOT SO: {sentence}\n{shown}")
    print(f"  {sentence}", flush=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def main() -> int:
    try:
        build.provide()
    except build.MissingTool as problem:
        print(f"The images are not tested: {problem}.", flush=True)
        return int(os.environ.get("CI") == "true")
    began = time.monotonic()
    build.FOLDER.mkdir(parents=True, exist_ok=True)
    (build.FOLDER / ".gitignore").write_text("*\n")
    build.base()
    print(f"base: {time.monotonic() - began:.0f} s", flush=True)
    server = build.image("server", "Dockerfile", "examples/digest")
    function = build.image("function", "Dockerfile.lambda", "examples/digest")
    folder = Path(tempfile.mkdtemp(prefix="slackwater-images-"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder, throwaway=True)
    try:
        uri = postgres.start()
        with bridge(str(socket_of(uri))) as port:
            Images(server, function, f"postgresql://postgres@127.0.0.1:{port}/postgres", folder).check()
    finally:
        postgres.release()
        postgres.wait_stopped(10)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"Both images do what they should: {time.monotonic() - began:.0f} s in all.", flush=True)
    return 0


def socket_of(uri: str) -> Path:
    said = conninfo_to_dict(uri)
    return Path(str(said["host"])) / f".s.PGSQL.{said.get('port', 5432)}"


if __name__ == "__main__":
    sys.exit(main())
