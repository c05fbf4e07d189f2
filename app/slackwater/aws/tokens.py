"""RDS IAM authentication: a token in place of a password, made for each connection."""

from __future__ import annotations

import re
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from slackwater.aws import clients
from slackwater.errors import SettingsError

STRICTER = frozenset({"require", "verify-ca", "verify-full"})
"""RDS takes a token over TLS only: libpq's own default would send it over either."""


class TokenConninfo:
    """`base`, with a token as its password. A token is good for 15 minutes, and only needed to log in.

    Making one sends nothing: it is a signature. Raises SettingsError when `base` lacks a user or a host, or when
    there are no credentials.
    """

    def __init__(self, base: str) -> None:
        self._base: dict[str, Any] = dict(conninfo_to_dict(base))
        if not self._base.get("user") or not self._base.get("host"):
            raise SettingsError(
                "SLACKWATER_DATABASE_IAM=true needs a user and a host in SLACKWATER_DATABASE_URI: "
                "postgresql://USER@HOST/NAME."
            )

    async def __call__(self) -> str:
        token = await clients.in_thread(_token, self._base)
        sslmode = self._base.get("sslmode")
        secure = sslmode if sslmode in STRICTER else "require"
        return make_conninfo(**{**self._base, "password": token, "sslmode": secure})


def _token(base: dict[str, Any]) -> str:
    from botocore.exceptions import BotoCoreError

    try:
        token: str = clients.client("rds", _region(base["host"])).generate_db_auth_token(
            DBHostname=base["host"], Port=int(base.get("port") or 5432), DBUsername=base["user"]
        )
    except BotoCoreError as error:
        raise SettingsError(
            f"Cannot create an IAM token ({error}): check the region and the credentials, or unset SLACKWATER_DATABASE_IAM."
        ) from error
    return token


def _region(host: str) -> str | None:
    """The region in the name that RDS gave to an instance or a proxy. It need not be the one we run in."""
    found = re.search(r"\.([a-z0-9-]+)\.rds\.amazonaws\.com", host)
    return found[1] if found else None
