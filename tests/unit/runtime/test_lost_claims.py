"""Which rows are claims whose answers were lost."""

from __future__ import annotations

import psycopg
import pytest

from slackwater.kit.ids import uuid7
from slackwater.runtime.process.lost_claims import REMEMBERED, LostClaims

A, B = (uuid7(), 1), (uuid7(), 4)


def test_what_nobody_here_knows_of_is_lost() -> None:
    claims = LostClaims()
    assert claims.begin(A)
    assert claims.judge([A, B]) == [B]


def test_a_claim_that_may_still_be_answered_is_not_lost() -> None:
    claims = LostClaims()
    with claims.statement():
        assert claims.judge([A]) == []
        assert claims.judge([A]) == []
    assert claims.judge([A]) == [A]


def test_statements_that_were_sent_later_cannot_answer_for_it() -> None:
    claims = LostClaims()
    with claims.statement():
        assert claims.judge([A]) == []
    with claims.statement():  # there is always one in flight where many runs come
        assert claims.judge([A, B]) == [A]


def test_nothing_begins_twice_under_one_fence() -> None:
    claims = LostClaims()
    assert claims.begin(A)
    assert not claims.begin(A)
    # It has ended here, and is ours all the same: its end could not be written, or a failover has forgotten it.
    assert claims.judge([A]) == []
    # A later claim of the same run has another fence.
    assert claims.judge([(A[0], 2)]) == [(A[0], 2)]


def test_what_has_begun_is_not_remembered_for_ever() -> None:
    claims = LostClaims()
    for fence in range(REMEMBERED + 5):
        claims.begin((A[0], fence))
    assert len(claims.begun) == REMEMBERED
    assert claims.judge([(A[0], 4), (A[0], 5)]) == [(A[0], 4)]


def test_a_statement_that_meets_trouble_is_a_reason_to_look() -> None:
    claims = LostClaims()
    with claims.statement():
        assert claims.in_flight
    assert not claims.suspected
    with pytest.raises(psycopg.OperationalError), claims.statement():
        raise psycopg.OperationalError("gone")
    assert claims.suspected
    assert not claims.in_flight
