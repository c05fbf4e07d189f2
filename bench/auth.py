"""What it costs to know who calls: one cheap request with each kind of credentials, against none."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx

from bench.companion import Companion
from bench.lab import ROUNDS, Lab
from bench.sides import WARM_SECONDS, Round, Served, cost
from bench.tables import Finding, Goal, figure, middle, percentile, quotients, ranged, spread

SECONDS = 2.0
CLIENTS = 8
NONE = "none"
GOAL_TIMES = 1.25
"""A request with any credentials, in CPU, against one without."""
OWNER = "bench"
EMAIL, PASSWORD = "bench@example.org", "a long enough password"
LOGINS = 30
NOISE = 0.05
"""By so much the median time of logins of unknown users may differ from that of known ones."""

OWN = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None) -> str:
    if authorization != "Bearer bench":
        raise Auth.exceptions.HTTPException(status_code=401)
    return "bench"
"""
"""A project's own authentication that does nothing but compare."""


@dataclass(frozen=True)
class Mode:
    """A server that asks for credentials, and a caller who has them."""

    served: Served
    headers: Mapping[str, str]
    url: str
    database: str


@dataclass(frozen=True)
class Turn:
    round: Round
    transactions: float
    """Of the database, for each request."""


def run(lab: Lab) -> list[Finding]:
    with Companion("bench.client") as client, ExitStack() as stack:
        modes = _modes(lab, client, stack)
        return [_requests(lab, modes), _logins(lab, stack)]


def _requests(lab: Lab, modes: Mapping[str, Mode]) -> Finding:
    finding = Finding(
        "Credentials: `GET /assistants/{id}`, one statement by itself",
        ("", "requests/s", "p50 / p95 ms", "server CPU ms", f"CPU, times {NONE}", "transactions per request"),
        notes=[
            f"{lab.few(ROUNDS)} rounds of {lab.seconds(SECONDS):g} s by turns, {CLIENTS} clients, a server each; ratios: median of "
            "the rounds' own (lowest–highest).",
            "Transactions are all of the server's, with those of its timers; the first is the request's own statement.",
        ],
    )
    for mode in modes.values():
        _turn(lab, lab.seconds(WARM_SECONDS), mode)
    found = lab.by_turns("auth", modes, partial(_turn, lab, lab.seconds(SECONDS)))
    base = [turn.round for turn in found[NONE]]
    for name, turns in found.items():
        rounds = [turn.round for turn in turns]
        latencies = [ms for one in rounds for ms in one.latencies]
        times = cost(rounds, base)
        finding.rows.append(
            (
                name,
                figure(middle([one.per_second for one in rounds])),
                f"{percentile(latencies, 0.5):.2f} / {percentile(latencies, 0.95):.2f}",
                figure(middle([one.process_ms for one in rounds])),
                "" if name == NONE else ranged(times),
                figure(middle([turn.transactions for turn in turns])),
            )
        )
        finding.data[name] = {
            "per_second": [round(one.per_second, 1) for one in rounds],
            "ms": spread(latencies),
            "times_cpu": [round(ratio, 3) for ratio in times],
            "transactions": [round(turn.transactions, 3) for turn in turns],
        }
        if name not in (NONE, LIMITED):
            finding.goals.append(
                Goal(f"CPU of a request, {name}, against none", middle(times), GOAL_TIMES, unit=" times")
            )
    return finding


LIMITED = "key in the database, limited owner"


def _modes(lab: Lab, client: Companion, stack: ExitStack) -> dict[str, Mode]:
    key = f"sw_{secrets.token_urlsafe(32)}"
    own = _project(lab)

    def serve(headers: Mapping[str, str], **env: str) -> Mode:
        database = lab.database()
        server = stack.enter_context(lab.serve(database, env))
        return Mode(Served(lab, [server], client), headers, server.url, database)

    def stored(mode: Mode) -> Mode:
        lab.query(
            mode.database,
            "insert into slackwater.api_keys (key_id, owner, prefix, sha256, scopes) values (gen_random_uuid(), %s, 'sw_', %s, '{run}')",
            (OWNER, hashlib.sha256(key.encode()).digest()),
        )
        return mode

    by_key = {"x-api-key": key}
    limited = stored(serve(by_key, SLACKWATER_DATABASE_KEYS="true"))
    lab.query(
        limited.database,
        "insert into slackwater.limits (owner, requests_per_minute) values (%s, 1000000)",
        (OWNER,),
    )
    accounts = serve({}, SLACKWATER_ACCOUNTS="true", SLACKWATER_SETUP="open")
    session = _session(accounts.url)
    return {
        NONE: serve({}),
        "key in the settings": serve(
            by_key, SLACKWATER_API_KEYS=f"{OWNER}:{hashlib.sha256(key.encode()).hexdigest()}"
        ),
        "key in the database": stored(serve(by_key, SLACKWATER_DATABASE_KEYS="true")),
        LIMITED: limited,
        "account, by cookie": replace(accounts, headers={"cookie": f"access_token={session}"}),
        "account, by bearer token": replace(accounts, headers={"authorization": f"Bearer {session}"}),
        "the project's own `auth`": serve({"authorization": "Bearer bench"}, SLACKWATER_PROJECT=str(own)),
    }


def _project(lab: Lab) -> Path:
    """The project of the benchmarks, with authentication of its own."""
    folder = lab.project("own", {"auth": {"path": "./auth.py:auth"}})
    (folder / "auth.py").write_text(OWN)
    return folder


def _session(url: str) -> str:
    """The token of the first administrator."""
    answer = httpx.post(
        f"{url}/api/v1/auth/initialize", json={"email": EMAIL, "password": PASSWORD}, timeout=30
    )
    answer.raise_for_status()
    return str(answer.cookies["access_token"])


def _turn(lab: Lab, seconds: float, mode: Mode) -> Turn:
    (assistant,) = lab.query(
        mode.database, "select assistant_id from slackwater.assistants where graph_id = 'one' limit 1"
    )
    before = _transactions(lab, mode.database)
    found = mode.served.ask(
        f"/assistants/{assistant['assistant_id']}", None, CLIENTS, seconds, headers=mode.headers
    )
    transactions = _transactions(lab, mode.database) - before
    return Turn(found, transactions / len(found.latencies))


def _transactions(lab: Lab, database: str) -> int:
    """Of the whole database until now. A session says it with the end of a transaction, at most once a second."""
    time.sleep(lab.seconds(1.1))
    asked = "select xact_commit + xact_rollback as n from pg_stat_database where datname = current_database()"
    return int(lab.query(database, asked)[0]["n"])


def _logins(lab: Lab, stack: ExitStack) -> Finding:
    database = lab.database()
    server = stack.enter_context(
        lab.serve(database, {"SLACKWATER_ACCOUNTS": "true", "SLACKWATER_SETUP": "open"})
    )
    _session(server.url)
    finding = Finding(
        "Who is known: `POST /api/v1/auth/login/local` with a wrong password",
        ("", "p50 ms", "p95", "times known"),
        notes=[f"{lab.few(LOGINS, quick=2)} of each by turns, one at a time."],
    )
    emails = {"known": EMAIL, "known, again": EMAIL, "unknown": "nobody@example.org"}
    times: dict[str, list[float]] = {name: [] for name in emails}
    with httpx.Client(base_url=server.url, timeout=30) as http:
        for _ in lab.rounds("auth: logins", range(lab.few(LOGINS, quick=2))):
            for name, email in emails.items():
                lab.query(database, "delete from slackwater.login_attempts")
                began = time.perf_counter()
                answer = http.post(
                    "/api/v1/auth/login/local", data={"username": email, "password": "not the password"}
                )
                times[name].append((time.perf_counter() - began) * 1000)
                assert answer.status_code == 401, answer.text
    for name, found in times.items():
        ratio = _ratio(found, times["known"])
        finding.rows.append(
            (
                name,
                figure(percentile(found, 0.5)),
                figure(percentile(found, 0.95)),
                "" if name == "known" else figure(ratio),
            )
        )
        finding.data[name] = {"ms": spread(found), "times_known": round(ratio, 3)}
    finding.goals.append(
        Goal(
            "login of an unknown user, against a known one",
            _ratio(times["unknown"], times["known"]),
            1 + NOISE,
            unit=" times",
        )
    )
    return finding


def _ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """The median of the ratios, each of two that were next to each other."""
    return middle(quotients(these, those))
