"""Which logins have come back from a provider."""

from __future__ import annotations

from slackwater.postgres.pool import Database

RETENTION_SECONDS = 7200
"""Longer than a login lasts, by more than the clocks of two processes differ."""

_COME_BACK = """
insert into slackwater.oidc_logins (state_sha256) values (%(digest)s)
on conflict (state_sha256) do nothing returning state_sha256"""

_TRIM = """
delete from slackwater.oidc_logins where came_back_at < clock_timestamp() - %(seconds)s * interval '1 second'"""


async def come_back(database: Database, digest: bytes) -> bool:
    """Whether this is the first time that the login comes back. Nobody else is told so, in any process, ever."""
    return await database.fetch_one(_COME_BACK, {"digest": digest}) is not None


async def trim(database: Database) -> None:
    """Forget logins whose cookie has expired long since."""
    await database.execute(_TRIM, {"seconds": RETENTION_SECONDS})
