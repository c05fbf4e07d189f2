"""The dates of a cron expression: clock changes, ends, and what is none."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from slackwater.api.crons.schedule import MAX_LENGTH, next_date
from slackwater.errors import Invalid


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def dates(schedule: str, timezone: str | None, after: str, count: int) -> list[str]:
    """The first dates after a moment, each found from the one before."""
    found, now = [], at(after)
    for _ in range(count):
        due = next_date(schedule, timezone, now, None)
        assert due is not None
        found.append(due.strftime("%m-%d %H:%M"))
        now = due
    return found


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("30 4 * * *", "2026-05-06 04:30:00"),
        ("*/15 * * * *", "2026-05-05 12:15:00"),
        ("0 0 * jan mon-fri", "2027-01-01 00:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 * * 7", "2026-05-10 00:00:00"),
        ("0 0 L * *", "2026-05-31 00:00:00"),
        ("@daily", "2026-05-06 00:00:00"),
        ("* * * * * 30", "2026-05-05 12:00:30"),  # the sixth field are the seconds
        ("0 5 * * * 10", "2026-05-06 05:00:10"),
    ],
)
def test_the_next_date_of_a_schedule(schedule: str, due: str) -> None:
    assert next_date(schedule, None, at("2026-05-05T12:00:00+00:00"), None) == at(f"{due}+00:00")


def test_a_date_is_later_than_what_it_follows() -> None:
    assert next_date("0 12 * * *", None, at("2026-05-05T12:00:00+00:00"), None) == at("2026-05-06T12:00Z")
    assert next_date("0 12 * * *", None, at("2026-05-05T11:59:59.9+00:00"), None) == at("2026-05-05T12:00Z")


def test_a_schedule_is_meant_in_its_zone() -> None:
    assert dates("0 9 * * *", "America/New_York", "2026-03-06T00:00Z", 4) == [
        "03-06 14:00",
        "03-07 14:00",
        "03-08 13:00",  # from here on it is summer
        "03-09 13:00",
    ]


def test_what_a_clock_change_skips_is_due_right_after_it() -> None:
    # In Berlin 02:00 becomes 03:00 on 29 March.
    assert dates("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 2) == ["03-29 01:00", "03-30 00:30"]
    assert dates("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15Z", 3) == [
        "03-29 00:30",
        "03-29 01:00",
        "03-29 01:30",
    ]


def test_what_comes_twice_is_due_once_unless_it_is_due_every_hour() -> None:
    # In Berlin 03:00 becomes 02:00 on 25 October, at 01:00 UTC.
    assert dates("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", 2) == ["10-25 00:30", "10-26 01:30"]
    assert dates("30 * * * *", "Europe/Berlin", "2026-10-25T00:00Z", 3) == [
        "10-25 00:30",
        "10-25 01:30",
        "10-25 02:30",
    ]


def test_the_second_of_two_equal_hours_does_not_lead_back_into_the_first() -> None:
    # GIVEN 02:10 for the second time: 02:30 was forty minutes ago
    assert dates("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10Z", 1) == ["10-26 01:30"]


@pytest.mark.parametrize(
    "zone", [None, "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"]
)
@pytest.mark.parametrize("schedule", ["30 2 * * *", "*/20 * * * *", "0 0,1,2 * * *", "* 2 * * *", "@daily"])
def test_time_only_goes_forward(zone: str | None, schedule: str) -> None:
    chance = random.Random(f"{zone}{schedule}")
    for _ in range(100):
        after = at("2026-01-01T00:00Z") + timedelta(seconds=chance.randrange(365 * 86400))
        due = next_date(schedule, zone, after, None)
        assert due is not None
        assert after < due <= after + timedelta(days=2)
        assert due.tzinfo is UTC


def test_no_date_is_after_the_end() -> None:
    noon = at("2026-05-05T12:00:00+00:00")

    assert next_date("0 * * * *", None, noon, at("2026-05-05T13:00:00+00:00")) == at("2026-05-05T13:00Z")
    assert next_date("0 * * * *", None, noon, at("2026-05-05T12:59:59+00:00")) is None


@pytest.mark.parametrize(
    "schedule",
    [
        "nonsense",
        "",
        "* * * *",
        "61 * * * *",
        "*/0 * * * *",
        "0 0 31 2 *",
        "* * * * * * *",
        "²L * * * *",
        "9" * 5000 + " * * * *",
        "*," * MAX_LENGTH + "* * * * *",
    ],
)
def test_what_is_no_schedule_is_refused_in_a_sentence(schedule: str) -> None:
    with pytest.raises(
        Invalid, match=r"^Invalid cron schedule: '.*'\. Reason: .* Example: '\*/5 \* \* \* \*'"
    ):
        next_date(schedule, None, at("2026-05-05T12:00Z"), None)


@pytest.mark.parametrize(
    "zone", ["Mars/X", "", "America", "../../etc/passwd", "/etc/localtime", "x" * 5000, "ü"]
)
def test_what_is_no_time_zone_is_refused_in_a_sentence(zone: str) -> None:
    with pytest.raises(Invalid, match=r"^Invalid timezone: '.*'\. Use IANA timezone format"):
        next_date("* * * * *", zone, at("2026-05-05T12:00Z"), None)


def test_a_schedule_that_never_comes_has_no_date() -> None:
    """A fifth Monday in a February that has 29 days, and begins with one, comes once in 28 years."""
    due = next_date("0 0 * 2 MON#5", None, at("2026-05-05T12:00Z"), None)
    assert due == at("2044-02-29T00:00Z")
