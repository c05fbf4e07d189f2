"""Which rows are claims whose answers were lost."""

from __future__ import annotations

import psycopg
import pytest

from app.ids import uuid7
from app.runtime.lost_claims import LostClaims

A, B = (uuid7(), 1), (uuid7(), 4)


def test_what_nobody_here_knows_of_is_lost() -> None:
    assert LostClaims().judge([A, B], [A]) == [B]


def test_a_claim_that_may_still_be_answered_is_not_lost() -> None:
    claims = LostClaims()
    with claims.statement():
        assert claims.judge([A], []) == []
        assert claims.judge([A], []) == []
    assert claims.judge([A], []) == [A]


def test_statements_that_were_sent_later_cannot_answer_for_it() -> None:
    claims = LostClaims()
    with claims.statement():
        assert claims.judge([A], []) == []
    with claims.statement():  # there is always one in flight where many runs come
        assert claims.judge([A, B], []) == [A]


def test_what_was_given_up_is_left_to_its_lease_for_as_long_as_it_is_ours() -> None:
    claims = LostClaims()
    claims.give_up(A)
    assert claims.judge([A], []) == []
    assert claims.judge([A], []) == []
    # A later claim of the same run has another fence.
    assert claims.judge([(A[0], 2)], []) == [(A[0], 2)]


def test_a_statement_that_meets_trouble_is_a_reason_to_look() -> None:
    claims = LostClaims()
    with claims.statement():
        assert claims.in_flight
    assert not claims.suspected
    with pytest.raises(psycopg.OperationalError), claims.statement():
        raise psycopg.OperationalError("gone")
    assert claims.suspected
    assert not claims.in_flight
