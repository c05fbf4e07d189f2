"""A headless Chromium and Node, as a front end has them: driven by Playwright in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest

from scripts import provide

SOURCES = Path(__file__).parents[1] / "browser"
ELSEWHERE = "chat.example"
"""A host that only the browser knows: a page from there is foreign to the server."""
FLAGS = (
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
)


def needed(found: str | Path | None, what: str) -> str:
    """The path of what a test needs; skips the test where it is missing, and fails it in CI."""
    if found is None or not Path(found).exists():
        message = f"needs {what}: python3 scripts/provide.py"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return str(found)


def node_environment() -> dict[str, str]:
    """Ours, in which `require` finds the packages of tests/browser/package-lock.json."""
    modules = needed(
        provide.node_modules(), f"Node {provide.NODE_VERSION} and the npm packages of tests/browser"
    )
    dropped = ("LANGGRAPH_API_KEY", "LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")
    return {
        **{name: value for name, value in os.environ.items() if name not in dropped},
        "NODE_PATH": modules,
    }


def build_page(folder: Path, source: str = "page/page.jsx") -> None:
    """A page with its packages, as a front end's own build makes it."""
    environ = node_environment()
    (folder / "index.html").write_bytes((SOURCES / "page" / "index.html").read_bytes())
    esbuild = Path(environ["NODE_PATH"]) / ".bin" / "esbuild"
    options = [
        "--bundle",
        "--jsx=automatic",
        '--define:process.env.NODE_ENV="production"',
        "--log-level=warning",
    ]
    subprocess.run(
        [esbuild, SOURCES / source, *options, f"--outfile={folder / 'page.js'}"],
        env=environ,
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """Serve a folder on loopback; the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), name="page")
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Chromium:
    """The browser: one process of Node, which starts it and takes it along when it goes."""

    def __init__(self) -> None:
        program = needed(provide.chromium(), "a headless Chromium")
        self._process = subprocess.Popen(
            ["node", SOURCES / "drive.cjs", program, *FLAGS],
            env=node_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lock = Lock()
        self._pages = 0

    def page(self) -> Page:
        """A page that shares nothing with others."""
        self._pages += 1
        return Page(self, f"page {self._pages}")

    def ask(self, page: str, method: str, params: tuple[Any, ...]) -> Any:
        """Call a method of the page and wait for what it gives. Raises AssertionError with what went wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"page": page, "method": method, "params": params}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        answer = json.loads(line or '{"error": "the browser has gone"}')
        assert "error" not in answer, f"{method}{params}: {answer['error']}"
        return answer["value"]

    def close(self) -> None:
        """Let it go; it has ended when this returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True)
class Page:
    """A page of Playwright: https://playwright.dev/docs/api/class-page"""

    browser: Chromium
    name: str

    async def call(self, method: str, *params: Any) -> Any:
        return await asyncio.to_thread(self.browser.ask, self.name, method, params)

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        try:
            await self.call("waitForFunction", condition)
        except AssertionError as late:
            raise AssertionError(
                f"{late}\nOn the page: {await self.text()}\n{await self.problems()}"
            ) from None

    async def text(self, selector: str = "body") -> str:
        """What a person reads there."""
        return str(await self.call("innerText", selector))

    async def texts(self, selector: str) -> list[str]:
        found = await self.call(
            "evaluate", f"[...document.querySelectorAll({selector!r})].map((found) => found.textContent)"
        )
        return [str(text) for text in found]

    async def problems(self) -> list[str]:
        """Exceptions that nobody has caught."""
        return list(await self.call("problems"))

    async def sockets(self) -> list[str]:
        """The addresses of the WebSockets that it has opened."""
        return list(await self.call("sockets"))

    async def requests(self) -> list[str]:
        """The addresses of everything that it has asked for."""
        return list(await self.call("requests"))

    async def complaints(self) -> list[str]:
        """What the browser has complained about, such as what a policy does not allow."""
        return list(await self.call("complaints"))


@asynccontextmanager
async def client_program(name: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program of tests/browser under Node, which is gone at the end."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(SOURCES / name),
        *arguments,
        env=node_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
