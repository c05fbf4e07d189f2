"""The demo: one run, one client, two processes, and a SIGTERM between them."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from handover.database import new_database
from handover.evidence import Evidence, verdicts
from handover.screen import Screen
from handover.server import Server, ServerDied
from slackwater.errors import StartError

EXAMPLES = Path(__file__).resolve().parent.parent
PROJECT = EXAMPLES / "digest"
HOME = EXAMPLES.parent / ".demo"
STOP_SECONDS = 30.0
SIGTERM_AFTER = 0.8
"""When to stop server A, in seconds after the outlines begin: each is then half streamed."""
BOUND_SECONDS = 120.0
BOUND_SECONDS_WITH_A_MODEL = 900.0


class NothingToShow(Exception):
    """The run ended before it could be handed over: give it more to read."""


class Demo:
    """The demo, from the first line to the last."""

    _a: Server
    _b: Server

    def __init__(self, texts: Path, port: int) -> None:
        self._texts = texts
        self._port = port
        self._screen = Screen()
        self._evidence = Evidence()
        self._outlining = asyncio.Event()
        self._shown: set[int] = set()
        self._folder = HOME / f"run-{os.getpid()}"
        """The folder of the logs; kept until the next demo if a promise was broken."""

    async def run(self) -> bool:
        """Run the demo; whether every promise was kept."""
        screen, began = self._screen, time.monotonic()
        screen.title("Slackwater: a run goes on when its process has to go")
        async with new_database(HOME / "data") as database, self._processes(database):
            screen.say(f"Postgres is there, {time.monotonic() - began:.1f} s: embedded, without a port")
            screen.say("starts: slackwater serve --project examples/digest", process="A")
            await self._a.start()
            screen.say(f"pid {self._a.pid} serves on {self._a.url}", process="A")
            async with get_client(url=self._a.url, api_key=None) as client:
                await self._follow_one_run(client)
            await self._b.stop()
            kept = self._conclude()
        if kept:
            shutil.rmtree(self._folder)
        return kept

    async def _follow_one_run(self, client: LangGraphClient) -> None:
        screen = self._screen
        thread_id = (await client.threads.create())["thread_id"]
        screen.say(f"The stock client, langgraph_sdk {version('langgraph-sdk')}, starts a run and reads:")
        screen.say("async for event in client.runs.stream(thread, 'digest', …)", style="italic")
        screen.begin_words()
        try:
            reading = asyncio.create_task(self._read(client, thread_id), name="client")
            handing = asyncio.create_task(self._hand_over(), name="hand-over")
            await self._both(reading, handing)
        finally:
            screen.end_words()
        await self._look_back(client, thread_id, reading.result())

    async def _read(self, client: LangGraphClient, thread_id: str) -> str:
        """The client: one `async for`, from the first event to the last; the run's id."""
        evidence, screen, run_id = self._evidence, self._screen, ""
        async for part in client.runs.stream(
            thread_id,
            "digest",
            input=asked_of(self._texts),
            stream_mode=["custom", "updates", "messages-tuple"],
        ):
            if (gap := evidence.record(part.event, part.data, part.id)) is not None:
                screen.say(f"The client's stream goes on: event {gap[1]} follows event {gap[0]}")
            match part.event:
                case "metadata":
                    run_id = part.data["run_id"]
                case "custom" if part.data["node"] == "outline":
                    self._outlining.set()
                case "messages":
                    about = part.data[1]
                    node, file = about["langgraph_node"], about.get("file")
                    owner = self._owner(about["langgraph_step"])
                    screen.word(file or "together", evidence.words[node, file], owner)
                case "updates":
                    self._show_superstep(next(iter(part.data)))
                case "error":
                    raise NothingToShow(f"The run failed: {part.data['message']}")
        return run_id

    async def _hand_over(self) -> None:
        """Send SIGTERM to A in the middle of a superstep, then start B on the same port."""
        screen, a, b = self._screen, self._a, self._b
        await self._outlining.wait()
        await asyncio.sleep(SIGTERM_AFTER)
        superstep = self._evidence.supersteps[-1]
        screen.say(f"SIGTERM to A, in the middle of superstep {superstep}", style="bold yellow")
        screen.say("finishes the superstep that it is in, and begins no other", process="A")
        seconds = await a.stop()
        screen.say(
            f"has left, {seconds:.1f} s after SIGTERM, exit code {a.exit_code}: the run is handed over",
            process="A",
        )
        screen.say("Nobody serves. The client waits, in the same `async for`.")
        screen.say("starts, on the same port", process="B")
        await b.start()
        screen.say(f"pid {b.pid} serves", process="B")

    async def _both(self, reading: asyncio.Task[str], handing: asyncio.Task[None]) -> None:
        """Wait for the client and for the hand-over; if one fails, cancel the other."""
        try:
            await asyncio.wait({reading, handing}, return_when=asyncio.FIRST_COMPLETED)
            if not handing.done():
                reading.result()
                raise NothingToShow(NothingToShow.__doc__)
            handing.result()
            await reading
        finally:
            for task in (reading, handing):
                task.cancel()
            await asyncio.wait({reading, handing})

    async def _look_back(self, client: LangGraphClient, thread_id: str, run_id: str) -> None:
        """Ask the server for what it has stored: the state, the checkpoints and the log of events."""
        evidence = self._evidence
        evidence.status = (await client.runs.get(thread_id, run_id))["status"]
        state = await client.threads.get_state(thread_id)
        evidence.state = state["values"] if isinstance(state["values"], dict) else {}
        evidence.history = await client.threads.get_history(thread_id, limit=1000)
        async for part in client.runs.join_stream(thread_id, run_id, last_event_id="-1"):
            if part.id:
                evidence.logged.append(part.id)

    def _conclude(self) -> bool:
        evidence, screen, a, b = self._evidence, self._screen, self._a, self._b
        evidence.exit_codes = {server.name: server.exit_code for server in (a, b)}
        evidence.report = a.drain_report()
        pause = evidence.pause()
        screen.table(
            evidence,
            {server.pid: server.name for server in (a, b)},
            f"{pause:.2f} s, of them {b.seconds_to_start:.2f} s to start B" if pause is not None else "",
        )
        screen.report("A's drain report, a JSON line of its log:", evidence.report)
        found = verdicts(evidence)
        screen.verdicts(found)
        if path := evidence.state.get("path"):
            screen.line(f"\nThe report that the run has written: {os.path.relpath(path)}")
        return all(verdict.broken is None for verdict in found)

    def _owner(self, superstep: int) -> str:
        pids = self._evidence.processes.get(superstep, set())
        return "B" if self._b.pid in pids else "A"

    def _show_superstep(self, node: str) -> None:
        """Print a line for the superstep of `node` once it is complete."""
        superstep = next(step for step, name, _ in reversed(self._evidence.started) if name == node)
        count = self._evidence.nodes(superstep)[node]
        if self._evidence.finished[node] == count and superstep not in self._shown:
            self._shown.add(superstep)
            times = f" × {count}" if count > 1 else ""
            self._screen.say(f"superstep {superstep}: {node}{times}", process=self._owner(superstep))
            self._screen.clear_words()

    @asynccontextmanager
    async def _processes(self, database: str) -> AsyncIterator[None]:
        """Set up two servers without starting them, and stop them at the end whatever happens."""
        self._folder.mkdir(parents=True)
        settings = {
            "SLACKWATER_DATABASE_URI": database,
            "DIGEST_ROOT": str(self._texts if self._texts.is_dir() else self._texts.parent),
            "DIGEST_OUT": str(HOME / "reports"),
        }
        self._a, self._b = (Server(name, PROJECT, self._port, self._folder, settings) for name in "AB")
        try:
            yield
        finally:
            for server in (self._a, self._b):
                try:
                    await asyncio.wait_for(server.stop(), STOP_SECONDS)
                except TimeoutError:
                    server.kill()


def asked_of(texts: Path) -> dict[str, Any]:
    """The run's input: the folder that the server may read, or the content of one file."""
    return {"folder": "."} if texts.is_dir() else {"files": {texts.name: texts.read_text(errors="replace")}}


def tidy() -> None:
    """Remove what earlier demos left behind, except the reports."""
    for folder in HOME.glob("run-*"):
        try:
            os.kill(int(folder.name.removeprefix("run-")), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except PermissionError:  # the pid now belongs to another user's process
            continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def run(texts: Path, port: int) -> bool:
    loop, story = asyncio.get_running_loop(), asyncio.current_task()
    assert story is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, story.cancel)
    bound = BOUND_SECONDS_WITH_A_MODEL if os.environ.get("DIGEST_MODEL") else BOUND_SECONDS
    async with asyncio.timeout(bound):
        return await Demo(texts, port).run()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 examples/demo.py",
        description="Runs examples/digest over a folder of texts, and stops the process that does it in the middle.",
    )
    parser.add_argument(
        "--input", type=Path, default=PROJECT / "texts", help="your own folder of texts, or one text"
    )
    parser.add_argument("--port", type=int, default=0, help="the port of the server (default: a free one)")
    arguments = parser.parse_args()
    texts: Path = arguments.input.resolve()
    if not texts.exists():
        parser.error(f"there is no {arguments.input}")
    # The user's proxy must not be used for servers on this machine.
    os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
    tidy()
    try:
        return 0 if asyncio.run(run(texts, arguments.port or free_port())) else 1
    except (ServerDied, StartError, NothingToShow) as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except TimeoutError:
        print("\nThe demo took too long; the logs of its servers are in .demo/run-*.", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 130


if __name__ == "__main__":
    sys.exit(main())
