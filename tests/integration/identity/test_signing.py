"""The keys that sign our tokens: made once, known to all processes, and nothing else is believed."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from psycopg import OperationalError

from slackwater.errors import DatabaseSilent, TokenExpired, TokenInvalid
from slackwater.identity.signing import queries, rotation, service, tokens
from slackwater.identity.signing.audience import Audience
from slackwater.identity.signing.encryption import Encryption
from slackwater.identity.signing.service import Signing
from slackwater.postgres.pool import Database

Make = Callable[[], Signing]

SESSION = Audience.SESSION


@pytest.fixture
async def make(database: Database) -> AsyncIterator[Make]:
    """What one process has of it."""
    async with AsyncExitStack() as stack:

        def make() -> Signing:
            signing = Signing(database, Encryption())
            stack.push_async_callback(signing.stop)
            return signing

        yield make


@pytest.fixture
def asks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is relied on."""
    monkeypatch.setattr(service, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(service, "UNKNOWN_SECONDS", 0.0)


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the database was asked."""
    asked: list[float] = []
    load = queries.load

    async def counted(database: Database) -> Any:
        asked.append(time.monotonic())
        return await load(database)

    monkeypatch.setattr(queries, "load", counted)
    return asked


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """As after a freeze: the wall clock alone has gone on."""
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + seconds)


def decoded(part: str) -> Any:
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def kid_of(token: str) -> str:
    return str(decoded(token.partition(".")[0])["kid"])


async def kids(database: Database) -> list[str]:
    return [row["kid"] for row in await rotation.list_(database)]


async def test_what_one_process_has_signed_any_other_verifies(make: Make) -> None:
    before = int(time.time())
    token = await make().sign(SESSION, {"sub": "alice", "sid": "s"}, seconds=60)
    claims = await make().verify(SESSION, token)
    assert {"sub": "alice", "sid": "s", "aud": "session"}.items() <= claims.items()
    assert before <= claims["iat"] <= time.time()
    assert before + 60 <= claims["exp"] <= time.time() + 60
    header = decoded(token.partition(".")[0])
    assert header == {"alg": "HS256", "kid": kid_of(token), "typ": "slackwater-session+jwt"}


async def test_however_many_start_at_once_there_is_one_key(make: Make, database: Database) -> None:
    many = [make() for _ in range(12)]
    made = await asyncio.gather(*(each.sign(SESSION, {}, seconds=60) for each in many))
    assert {kid_of(token) for token in made} == set(await kids(database))
    assert len(await kids(database)) == 1
    for each, token in zip(many, reversed(made), strict=True):
        await each.verify(SESSION, token)


async def test_no_token_is_valid_for_longer_than_its_key_verifies(make: Make) -> None:
    claims = await make().verify(SESSION, await make().sign(SESSION, {}, seconds=1e9))
    assert claims["exp"] <= time.time() + rotation.LONGEST_SECONDS
    assert rotation.LONGEST_SECONDS + tokens.LEEWAY_SECONDS < rotation.OVERLAP_SECONDS


# What is believed


@pytest.mark.parametrize("other", [audience for audience in Audience if audience is not SESSION])
async def test_a_token_for_one_purpose_is_none_for_another(make: Make, other: Audience) -> None:
    signing = make()
    token = await signing.sign(SESSION, {"sub": "alice"}, seconds=60)
    assert tokens.audience_of(token) is SESSION
    with pytest.raises(TokenInvalid):
        await signing.verify(other, token)


async def test_an_expired_token_is_told_from_one_that_is_none(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = make()
    token = await signing.sign(SESSION, {}, seconds=60)
    soon = await signing.sign(SESSION, {}, seconds=1 - tokens.LEEWAY_SECONDS)
    # Clocks differ a little.
    await signing.verify(SESSION, soon)
    later(monkeypatch, 60 + tokens.LEEWAY_SECONDS)
    for each in (token, soon):
        with pytest.raises(TokenExpired):
            await signing.verify(SESSION, each)
        # WHEN it is not ours, nobody learns that it has expired
        with pytest.raises(TokenInvalid):
            await signing.verify(SESSION, each[:-2] + ("AA" if each[-2:] != "AA" else "BB"))


async def secret_of(database: Database) -> OctKey:
    (row,) = await database.fetch("select secret from slackwater.signing_keys")
    return OctKey.import_key(row["secret"])


async def test_a_token_that_is_not_exactly_as_we_sign_it_is_none(
    make: Make, database: Database, subtests: pytest.Subtests
) -> None:
    signing = make()
    token = await signing.sign(SESSION, {"sub": "alice"}, seconds=60)
    key = await secret_of(database)
    head, body, signature = token.split(".")
    header, claims = decoded(head), decoded(body)
    everything = ["HS256", "HS384", "HS512", "none"]

    def signed(header: dict[str, Any], claims: Any) -> str:
        """By the right key."""
        return jwt.encode(header, claims, key, everything, default_type=None)

    assert (await signing.verify(SESSION, signed(header, claims)))["sub"] == "alice"
    foreign = OctKey.import_key("x" * 43)
    wrong = {
        "empty": "",
        "a word": "token",
        "dots": "..",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{token}.{signature}",
        "a space": f"{token} ",
        "a line": f"{token}\n",
        "not ASCII": f"{token[:-1]}é",
        "padding": f"{head}.{body}.{signature}=",
        "too long": signed(header, {**claims, "x": "x" * tokens.MOST}),
        "another's signature": jwt.encode(header, claims, foreign),
        "another body": f"{head}.{encoded({**claims, 'sub': 'bob'})}.{signature}",
        "the signature of another": f"{head}.{body}.{signed(header, {**claims, 'sub': 'bob'}).rpartition('.')[2]}",
        "alg none": f"{encoded({**header, 'alg': 'none'})}.{body}.",
        "alg none, signed": f"{encoded({**header, 'alg': 'none'})}.{body}.{signature}",
        "alg HS512": signed({**header, "alg": "HS512"}, claims),
        "alg RS256": f"{encoded({**header, 'alg': 'RS256'})}.{body}.{signature}",
        "alg hs256": f"{encoded({**header, 'alg': 'hs256'})}.{body}.{signature}",
        "no typ": signed({"alg": "HS256", "kid": header["kid"]}, claims),
        "typ JWT": signed({**header, "typ": "JWT"}, claims),
        "typ of another": signed({**header, "typ": Audience.INTERNAL.typ}, claims),
        "aud of another": signed(header, {**claims, "aud": "internal"}),
        "aud of both": signed(header, {**claims, "aud": ["session", "internal"]}),
        "no aud": signed(header, {"exp": claims["exp"]}),
        "no kid": signed({"alg": "HS256", "typ": header["typ"]}, claims),
        "kid of nothing": signed({**header, "kid": "nothing"}, claims),
        "kid of SQL": signed({**header, "kid": "' or true"}, claims),
        "kid a number": f"{encoded({**header, 'kid': 1})}.{body}.{signature}",
        "jwk": signed({**header, "jwk": foreign.as_dict()}, claims),
        "crit": f"{encoded({**header, 'crit': ['exp']})}.{body}.{signature}",
        "a list": f"{encoded([header])}.{body}.{signature}",
        "deep": f"{encoded(b'[' * 290)}.{body}.{signature}",
        "no exp": signed(header, {"aud": "session"}),
        "exp of text": signed(header, {**claims, "exp": "9999999999"}),
        "exp of null": signed(header, {**claims, "exp": None}),
        "exp of NaN": signed(header, {**claims, "exp": float("nan")}),
        "exp of true": signed(header, {**claims, "exp": True}),
    }
    for name, each in wrong.items():
        with subtests.test(name), pytest.raises(TokenInvalid):
            await signing.verify(SESSION, each)


async def test_unknown_keys_cost_a_question_a_second_whoever_sends_them(
    make: Make, questions: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "UNKNOWN_SECONDS", 1000.0)
    signing = make()
    token = await signing.sign(SESSION, {}, seconds=60)
    header = decoded(token.partition(".")[0])

    async def strange(number: int) -> None:
        head = encoded({**header, "kid": f"unknown-{number}"})
        with pytest.raises(TokenInvalid):
            await signing.verify(SESSION, f"{head}.{token.partition('.')[2]}")

    await asyncio.gather(*(strange(number) for number in range(500)))
    assert len(questions) == 2  # of which the second was after the first key was made
    # WHEN one may ask, all get its answer
    monkeypatch.setattr(service, "UNKNOWN_SECONDS", 0.0)
    await asyncio.gather(*(strange(number) for number in range(500)))
    assert len(questions) == 3
    # AND what is no token of ours costs nothing at all
    for other in ("x.y.z", "sw_" + "x" * 43, f"{header}"):
        with pytest.raises(TokenInvalid):
            await signing.verify(SESSION, other)
    assert len(questions) == 3


# What is known


async def test_many_tokens_are_verified_without_a_question(make: Make, questions: list[float]) -> None:
    one = make()
    token = await one.sign(SESSION, {}, seconds=60)
    del questions[:]
    signing = make()
    await asyncio.gather(*(signing.verify(SESSION, token) for _ in range(50)))
    assert len(questions) == 1


async def test_the_signature_of_a_token_is_computed_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    decode = tokens.decode

    def noted(audience: Audience, token: str, key: Any, now: float) -> Any:
        computed.append(token)
        return decode(audience, token, key, now)

    monkeypatch.setattr(tokens, "decode", noted)
    monkeypatch.setattr(service, "MOST_READ", 2)
    signing = make()
    one, two, three = [await signing.sign(SESSION, {"sub": name}, seconds=60) for name in "abc"]
    for token in (one, one, two, one):
        claims = await signing.verify(SESSION, token)
        assert claims["sub"] == ("b" if token is two else "a")
    assert computed == [one, two]
    # AND it is for one purpose all the same
    with pytest.raises(TokenInvalid):
        await signing.verify(Audience.INTERNAL, one)
    # AND only so many are remembered
    for token in (three, two, one):
        await signing.verify(SESSION, token)
    assert computed == [one, two, three, one]
    # AND one that is not ours is remembered by nobody
    for _ in range(2):
        with pytest.raises(TokenInvalid):
            await signing.verify(SESSION, one[:-2] + ("AA" if one[-2:] != "AA" else "BB"))
    assert len(computed) == 6


async def test_while_one_asks_others_go_on_and_who_leaves_takes_no_answer_along(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = make()
    token = await signing.sign(SESSION, {}, seconds=60)
    load, asked, answer = queries.load, 0, asyncio.Event()

    async def slow(database: Database) -> Any:
        nonlocal asked
        asked += 1
        await answer.wait()
        return await load(database)

    monkeypatch.setattr(queries, "load", slow)
    later(monkeypatch, service.FRESH_SECONDS)
    first = asyncio.create_task(signing.verify(SESSION, token))
    while not asked:
        await asyncio.sleep(0)
    first.cancel()
    # The question goes on, and nobody waits for it who need not.
    for _ in range(5):
        await signing.verify(SESSION, token)
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await signing.verify(SESSION, token)
    assert asked == 1


async def test_after_a_freeze_nothing_is_done_with_what_was_known_before(
    make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = make()
    token = await signing.sign(SESSION, {}, seconds=600)
    await rotation.rotate(database, Encryption(), now=True)
    await database.execute("update slackwater.signing_keys set signs_from = clock_timestamp()")
    (new,) = await kids(database)
    # GIVEN a process that does not know it yet
    await signing.verify(SESSION, token)
    later(monkeypatch, service.STALE_SECONDS)
    with pytest.raises(TokenInvalid):
        await signing.verify(SESSION, token)
    frozen = make()
    await frozen.sign(SESSION, {}, seconds=60)
    await rotation.rotate(database, Encryption(), now=True)
    await database.execute("update slackwater.signing_keys set signs_from = clock_timestamp()")
    later(monkeypatch, 2 * service.STALE_SECONDS)
    assert kid_of(await frozen.sign(SESSION, {}, seconds=60)) not in (kid_of(token), new)


async def test_an_answer_that_was_on_its_way_during_a_freeze_is_not_relied_on(
    make: Make, database: Database, questions: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = make()
    token = await signing.sign(SESSION, {}, seconds=600)
    load, frozen = queries.load, False

    async def freezing(database: Database) -> Any:
        nonlocal frozen
        rows = await load(database)
        if not frozen:
            frozen = True
            await rotation.rotate(database, Encryption(), now=True)
            later(monkeypatch, 60)
        return rows

    other = make()
    del questions[:]
    monkeypatch.setattr(queries, "load", freezing)
    with pytest.raises(TokenInvalid):
        await other.verify(SESSION, token)
    assert len(questions) == 2

    # WHEN every answer is old, nobody relies on one
    async def always(database: Database) -> Any:
        rows = await load(database)
        later(monkeypatch, 60)
        return rows

    monkeypatch.setattr(queries, "load", always)
    with pytest.raises(DatabaseSilent):
        await make().verify(SESSION, token)


async def test_while_the_database_is_away_tokens_are_verified_until_what_is_known_is_old(
    make: Make, asks_always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = make()
    token = await signing.sign(SESSION, {}, seconds=60)

    async def away(database: Database) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(queries, "load", away)
    await signing.verify(SESSION, token)
    later(monkeypatch, service.STALE_SECONDS)
    with pytest.raises(OperationalError):
        await signing.verify(SESSION, token)


async def test_a_question_ends_with_its_process(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(database: Database) -> Any:
        await asyncio.Event().wait()

    signing = make()
    monkeypatch.setattr(queries, "load", silent)
    waiting = asyncio.create_task(signing.sign(SESSION, {}, seconds=60))
    while not signing._questions:
        await asyncio.sleep(0)
    await signing.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [task for task in asyncio.all_tasks() if task.get_name() == "signing:keys"] == []
