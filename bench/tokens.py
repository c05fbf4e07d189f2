"""What a token costs, above all in Postgres: many concurrent streams of a chat model's tokens.

The floor is `graph.astream` with the stock saver: it stores no events.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.companion import Companion
from bench.lab import ROUNDS, THIS, Lab, Server, Tree
from bench.sides import FLOOR, floor
from bench.tables import Finding, Goal, figure, middle, percentile, ranged, spread

STREAMS, TOKENS = 50, 200
PACES = (0, 40)
MODE = "messages-tuple"
GOAL_US = 30


@dataclass(frozen=True)
class Crowd:
    """Streams that start together."""

    streams: int
    tokens: int
    """Of each."""
    pace: int
    """Tokens a second; 0: as many as the machine makes."""

    @property
    def input(self) -> dict[str, Any]:
        said = [{"role": "user", "content": "Go on."}]
        return {"messages": said, "tokens": self.tokens, "pace": self.pace}

    @property
    def total(self) -> int:
        return self.streams * self.tokens


@dataclass(frozen=True)
class Spent:
    """By all the streams of one turn; microseconds are for each token."""

    seconds: float
    process_us: float
    postgres_us: float
    wal_bytes: float
    """For each token."""
    rows: float
    """Of events, for each token."""
    wire_bytes: float
    firsts: list[float]


def run(lab: Lab) -> list[Finding]:
    streams = lab.few(STREAMS, quick=4)
    finding = Finding(
        f"Tokens: {streams} streams at once, `stream_mode` `{MODE}`, for each token",
        (
            "",
            "",
            "tokens/s",
            "process CPU µs",
            "Postgres CPU µs",
            "WAL bytes",
            "rows of events",
            "bytes on the wire",
            "first event p50 / p95 ms",
        ),
        notes=[
            f"{lab.few(ROUNDS)} rounds by turns: median (lowest–highest). The floor is `graph.astream` with the stock saver, which "
            "stores no events."
        ],
    )
    with Companion("bench.client") as client, ExitStack() as stack:
        sides: dict[str, Callable[[Crowd], Spent]] = {
            FLOOR: partial(_alone, lab, stack.enter_context(floor(lab)))
        }
        for tree in lab.trees:
            sides[tree.name] = partial(_served, lab, client, *_serve(lab, tree, stack))
        for pace in PACES:
            name = f"{pace} tokens a second each" if pace else "as fast as they come"
            tokens = lab.few(TOKENS, quick=20)
            for side in sides.values():
                side(Crowd(2, 20, 0))  # imports and connects
            found = lab.by_turns(f"tokens: {name}", sides, partial(_turn, Crowd(streams, tokens, pace)))
            for side_name, spent in found.items():
                _report(finding, name, side_name, spent, streams * tokens)
            if not pace:
                cost = middle([one.postgres_us for one in found[THIS.name]])
                what = f"Postgres CPU per token, {MODE}, {STREAMS} streams"
                finding.goals.append(Goal(what, cost, GOAL_US, unit=" µs"))
    return [finding]


def _serve(lab: Lab, tree: Tree, stack: ExitStack) -> tuple[Server, str]:
    uri = lab.database(tree)
    return stack.enter_context(lab.serve(uri, {"SLACKWATER_MAX_CONCURRENT_RUNS": "128"}, tree)), uri


def _turn(crowd: Crowd, side: Callable[[Crowd], Spent]) -> Spent:
    return side(crowd)


def _alone(lab: Lab, companion: Companion, crowd: Crowd) -> Spent:
    cpu, wal = lab.postgres_cpu_seconds(), lab.wal_bytes()
    answer = companion.ask(
        "together", graph="tokens", input=crowd.input, stream_mode="messages", streams=crowd.streams
    )
    cpu, wal = lab.postgres_cpu_seconds() - cpu, lab.wal_bytes() - wal
    return Spent(
        answer["seconds"],
        answer["cpu_seconds"] * 1e6 / crowd.total,
        cpu * 1e6 / crowd.total,
        wal / crowd.total,
        0,
        0,
        [],
    )


def _served(lab: Lab, client: Companion, server: Server, uri: str, crowd: Crowd) -> Spent:
    rows, cpu, own, wal = _rows(lab, uri), lab.postgres_cpu_seconds(), server.cpu_seconds(), lab.wal_bytes()
    firsts = client.ask(
        "open_streams",
        url=server.url,
        path="/threads/{thread}/runs/stream",
        body={
            "assistant_id": "tokens",
            "input": crowd.input,
            "stream_mode": MODE,
            "if_not_exists": "create",
        },
        streams=crowd.streams,
        per_second=0,
    )["firsts"]
    ended = client.ask("end_streams")
    own, cpu, wal = server.cpu_seconds() - own, lab.postgres_cpu_seconds() - cpu, lab.wal_bytes() - wal
    return Spent(
        ended["seconds"],
        own * 1e6 / crowd.total,
        cpu * 1e6 / crowd.total,
        wal / crowd.total,
        (_rows(lab, uri) - rows) / crowd.total,
        ended["bytes"] / crowd.total,
        firsts,
    )


def _rows(lab: Lab, uri: str) -> int:
    return int(lab.query(uri, "select count(*) as n from slackwater.run_events")[0]["n"])


def _report(finding: Finding, case: str, side: str, spent: list[Spent], tokens: int) -> None:
    def of(what: str) -> list[float]:
        return [getattr(one, what) for one in spent]

    firsts = [ms for one in spent for ms in one.firsts]
    finding.rows.append(
        (
            case,
            side,
            figure(middle([tokens / seconds for seconds in of("seconds")])),
            ranged(of("process_us")),
            ranged(of("postgres_us")),
            *(figure(middle(of(what))) for what in ("wal_bytes", "rows", "wire_bytes")),
            f"{percentile(firsts, 0.5):.0f} / {percentile(firsts, 0.95):.0f}" if firsts else "",
        )
    )
    finding.data[f"{case}, {side}"] = {
        "tokens": tokens,
        **{
            what: [round(value, 2) for value in of(what)]
            for what in Spent.__annotations__
            if what != "firsts"
        },
        **({"first_event_ms": spread(firsts)} if firsts else {}),
    }
