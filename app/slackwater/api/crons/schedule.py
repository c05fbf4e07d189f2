"""When a cron is due: the dates of a cron expression in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from slackwater.errors import Invalid

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

MAX_LENGTH = 255

_REASON = (
    "Invalid cron schedule. Ensure the schedule uses the standard cron format (minute hour day_of_month month "
    "day_of_week). Example: '*/5 * * * *' for every 5 minutes."
)


def next_date(schedule: str, timezone: str | None, after: datetime, end: datetime | None) -> datetime | None:
    """The first date of `schedule` after `after`, in UTC; None if there is none up to `end`.

    As in Debian's cron: what is meant for a time that a clock change skips is due right after it, and what is meant
    for an hour that comes twice is due once, unless it is due every hour or minute anyway.
    Raises Invalid.
    """
    zone = _zone(timezone)
    after = after.astimezone(UTC)
    dates = _dates(schedule, after.astimezone(zone))
    # In the second of two equal hours the library begins with the first, which is over.
    for date in dates:
        due = date.astimezone(UTC)
        if due > after:
            return due if end is None or due <= end else None
    return None


def _dates(schedule: str, start: datetime) -> CronSim:
    fields = NAMES.get(schedule.strip().lower(), schedule).split()
    if len(fields) == 6:  # the sixth are the seconds, which the library expects in front
        fields.insert(0, fields.pop())
    if len(schedule) <= MAX_LENGTH:
        try:
            return CronSim(" ".join(fields), start)
        except CronSimError:
            pass
    raise Invalid(f"Invalid cron schedule: '{schedule[:MAX_LENGTH]}'. Reason: {_REASON}")


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, outside of the database, a folder of it
        raise Invalid(
            f"Invalid timezone: '{name[:MAX_LENGTH]}'. Use IANA timezone format (e.g. 'America/New_York')."
        ) from None
