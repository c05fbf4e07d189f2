"""The gateway below `/api`: many large uploads at once, what it costs to record messages, and a page of many messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from uuid import uuid4

import httpx

from bench.companion import Companion
from bench.lab import Lab, Server
from bench.sides import WARM_SECONDS, Case, Round, Served, cost, speed
from bench.tables import Finding, Goal, figure, middle, percentile, ranged, spread

GATEWAY = {"SLACKWATER_GATEWAY": "true"}

MEBIBYTE = 1024 * 1024
UPLOADS = 20
SMALL_MIB, LARGE_MIB = 10, 100
MEMORY_TIMES = 1.15
"""The most memory while files of 100 MiB arrive, against files of 10 MiB."""
SAMPLE_SECONDS = 0.1

SECONDS = 1.5
TURNS = 24
"""Many short rounds: both sides of each have the same neighbours on the machine, and the median of their ratios hardly moves."""
CASE = Case(
    "a model that says eight words, 8 clients",
    "tokens",
    8,
    input={"messages": [{"type": "human", "content": "Hello"}], "tokens": 8, "pace": 0},
)
MESSAGES_TIMES = 1.1

ROWS = 100_000
PAGE = 50
PAGES = 60
PAGE_TIMES = 1.5
"""A page in a thread of 100 000 messages, against one of 100."""


def run(lab: Lab) -> list[Finding]:
    return [_uploads(lab), _messages(lab), _pages(lab)]


# Uploads


def _uploads(lab: Lab) -> Finding:
    small, large = lab.few(SMALL_MIB, quick=1), lab.few(LARGE_MIB, quick=2)
    finding = Finding(
        f"{UPLOADS} uploads at once, into a folder",
        ("size of each", "MiB/s", "memory before, MiB", "at most, MiB"),
        notes=[
            "One server, and clients on the same machine. Memory is the resident set of the server, 10 times a second."
        ],
    )
    most = large * MEBIBYTE
    project = lab.project("files", {"gateway": {"uploads": {"max_file_size": most, "max_total_size": most}}})
    peaks = {}
    with lab.serve(lab.database(), {**GATEWAY, "SLACKWATER_PROJECT": str(project)}) as server:
        _send(server, 1)  # imports
        for size in (small, large):
            before = server.memory_mb()
            with _Sampled(server) as sampled:
                began = time.perf_counter()
                with ThreadPoolExecutor(UPLOADS) as clients:
                    list(clients.map(partial(_send, server), [size] * UPLOADS))
                took = time.perf_counter() - began
            peaks[size] = sampled.most
            finding.rows.append(
                (
                    f"{size} MiB",
                    figure(UPLOADS * size / took),
                    figure(before),
                    figure(sampled.most),
                )
            )
            finding.data[f"{size} MiB"] = {
                "mib_per_second": round(UPLOADS * size / took, 1),
                "before_mib": round(before, 1),
                "most_mib": round(sampled.most, 1),
            }
    what = f"memory while {UPLOADS} files of {large} MiB arrive, against {small} MiB"
    finding.goals.append(Goal(what, peaks[large] / peaks[small], MEMORY_TIMES, unit=" times"))
    return finding


class _Sampled:
    """The most memory that a server has while the context lasts."""

    def __init__(self, server: Server) -> None:
        self.most = 0.0
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory")

    def __enter__(self) -> _Sampled:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.most = max(self.most, self._server.memory_mb())
            if self._over.wait(SAMPLE_SECONDS):
                return


def _send(server: Server, mebibytes: int) -> None:
    boundary = "bench"

    def body() -> Iterator[bytes]:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
        yield head.encode()
        part = bytes(range(256)) * 1024
        for _ in range(4 * mebibytes):
            yield part
        yield f"\r\n--{boundary}--\r\n".encode()

    answer = httpx.post(
        f"{server.url}/api/threads/{uuid4()}/uploads",
        content=body(),
        headers={"content-type": f"multipart/form-data; boundary={boundary}"},
        timeout=600,
    )
    answer.raise_for_status()


# Messages


def _messages(lab: Lab) -> Finding:
    finding = Finding(
        "Messages and token counts: `POST /runs/wait` of a run that calls a model",
        ("", "runs/s", "server CPU ms", "CPU, times without", "duration, times without"),
        notes=[
            f"{lab.few(TURNS)} rounds of {lab.seconds(SECONDS):g} s by turns, a server each; ratios: median of the rounds' own "
            "(lowest–highest)."
        ],
    )
    with Companion("bench.client") as client, ExitStack() as stack:
        sides = {
            name: Served(lab, [stack.enter_context(lab.serve(lab.database(), env))], client)
            for name, env in {"without": {}, "recorded": GATEWAY}.items()
        }
        for side in sides.values():
            side.round(CASE, lab.seconds(WARM_SECONDS))
        rounds: dict[str, list[Round]] = lab.by_turns(
            "files: messages", sides, lambda side: side.round(CASE, lab.seconds(SECONDS)), rounds=TURNS
        )
    base = rounds["without"]
    for name, found in rounds.items():
        times, longer = cost(found, base), [1 / ratio for ratio in speed(found, base)]
        first = name == "without"
        finding.rows.append(
            (
                name,
                figure(middle([one.per_second for one in found])),
                figure(middle([one.process_ms for one in found])),
                "" if first else ranged(times),
                "" if first else ranged(longer),
            )
        )
        finding.data[name] = {
            "per_second": [round(one.per_second, 1) for one in found],
            "times_cpu": [round(ratio, 3) for ratio in times],
            "times_duration": [round(ratio, 3) for ratio in longer],
        }
        if not first:
            finding.goals.append(
                Goal(
                    "a run whose messages are recorded, against without",
                    middle(longer),
                    MESSAGES_TIMES,
                    unit=" times",
                )
            )
    return finding


# Pages


def _pages(lab: Lab) -> Finding:
    finding = Finding(
        f"A page of {PAGE} messages",
        ("messages in the thread", "p50 ms", "p95", "times the short one"),
        notes=[f"{lab.few(PAGES, quick=3)} pages of each by turns, from random places; one client."],
    )
    database = lab.database()
    counts = {"100": 100, f"{ROWS:,}".replace(",", " "): lab.few(ROWS, quick=1000)}
    times: dict[str, list[float]] = {name: [] for name in counts}
    with lab.serve(database, GATEWAY) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        threads = {name: _filled(lab, database, http, count) for name, count in counts.items()}
        for n in lab.rounds("files: pages", range(lab.few(PAGES, quick=3))):
            for name, count in counts.items():
                before = PAGE + 1 + (n * 7919) % (count - PAGE)
                began = time.perf_counter()
                answer = http.get(
                    f"/api/threads/{threads[name]}/messages", params={"limit": PAGE, "before_seq": before}
                )
                times[name].append((time.perf_counter() - began) * 1000)
                assert len(answer.json()) == PAGE, answer.text
    short, long = times
    for name, found in times.items():
        ratio = percentile(found, 0.5) / percentile(times[short], 0.5)
        finding.rows.append(
            (
                name,
                figure(percentile(found, 0.5)),
                figure(percentile(found, 0.95)),
                "" if name == short else figure(ratio),
            )
        )
        finding.data[name] = {"ms": spread(found)}
    ratio = percentile(times[long], 0.5) / percentile(times[short], 0.5)
    finding.goals.append(Goal(f"a page among {long} messages, against 100", ratio, PAGE_TIMES, unit=" times"))
    return finding


def _filled(lab: Lab, database: str, http: httpx.Client, count: int) -> str:
    """A thread with so many messages."""
    answer = http.post("/threads", json={})
    answer.raise_for_status()
    thread_id = str(answer.json()["thread_id"])
    lab.query(
        database,
        """insert into slackwater.messages (thread_id, seq, run_id, event_type, category, content, metadata)
           select %(thread)s, n, gen_random_uuid(), 'llm.ai.response', 'message',
             jsonb_build_object('id', n::text, 'type', 'ai', 'content', repeat('word ', 60)), '{"caller": "lead_agent"}'
           from generate_series(1, %(count)s) n""",
        {"thread": thread_id, "count": count},
    )
    lab.query(database, "analyze slackwater.messages")
    return thread_id
