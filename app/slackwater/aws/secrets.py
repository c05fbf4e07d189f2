"""Secrets Manager: the database's user and password, API keys, and what encrypts signing keys."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from slackwater.aws import clients
from slackwater.errors import SettingsError
from slackwater.identity.keys import ApiKey
from slackwater.identity.signing.encryption import Encryption
from slackwater.settings import Settings

MAX_AGE_SECONDS = 3600
"""A password that was rotated is noticed by its refusal; this is for the host that has moved."""
AGAIN_SECONDS = 1.0
"""How soon a refused password is looked up once more. A rotation sets it in the database first, then in the secret."""


class SecretError(SettingsError):
    """A secret cannot be read, or does not hold what is expected of it."""


class SecretConninfo:
    """The conninfo of a secret: RDS's JSON, or a URI. Asked again for each connection, read again after a refusal.

    `base` is the conninfo of the settings, without a password. What it says of host, port, name and options comes
    first: the way may lead through a proxy of which the secret knows nothing. Raises SecretError.
    """

    def __init__(self, arn: str, base: str | None = None) -> None:
        self._arn = arn
        self._base = base
        self._given: str | None = None
        self._changed = 0.0
        self._read = 0.0
        self._reading = asyncio.Lock()

    async def __call__(self) -> str:
        conninfo = await self._look(force=False)
        self._given = self._given or conninfo
        return conninfo

    async def renew(self, since: float) -> bool:
        """Read the secret again; True if it is another one than at the monotonic second `since`."""
        async with self._reading:  # every worker of the pool is refused at once: one of them asks
            if self._changed <= since and time.monotonic() - self._read >= AGAIN_SECONDS:
                self._read = time.monotonic()
                conninfo = await self._look(force=True)
                if conninfo != self._given:
                    self._given, self._changed = conninfo, time.monotonic()
            return self._changed > since

    async def _look(self, *, force: bool) -> str:
        text = await clients.in_thread(_fetch, self._arn, force)
        return conninfo_of(text, self._base, self._arn)


async def with_secret_keys(settings: Settings) -> Settings:
    """The settings, with the keys of the secret that they name. Raises SecretError."""
    arn = settings.api_keys_secret_arn
    if arn is None:
        return settings
    return settings.model_copy(update={"api_keys": (*settings.api_keys, *await api_keys(arn))})


async def api_keys(arn: str) -> tuple[ApiKey, ...]:
    """The keys in a secret: `name:sha256hex,…`, or a JSON list of such strings. Raises SecretError."""
    text = (await clients.in_thread(_fetch, arn, True)).strip()
    try:
        items = orjson.loads(text) if text.startswith("[") else text.split(",")
        keys = tuple(ApiKey.parse(item) for item in items if item.strip())
    except (orjson.JSONDecodeError, AttributeError):
        raise SecretError(
            f"The secret {arn} does not contain API keys: write name:sha256hex, separated by commas, or a JSON list of "
            "such strings."
        ) from None
    except ValueError as error:
        raise SecretError(f"The secret {arn}: {error}.") from None
    if not keys:
        raise SecretError(
            f"The secret {arn} contains no API key: run `slackwater keys new NAME` and put a key into it."
        )
    return keys


async def encryption_of(settings: Settings) -> Encryption:
    """What encrypts the keys that sign tokens. Raises SecretError."""
    arn = settings.encryption_key_secret_arn
    text = settings.encryption_key if arn is None else await clients.in_thread(_fetch, arn, True)
    if text is None:
        return Encryption()
    try:
        return Encryption.parse(text)
    except ValueError as error:
        raise SecretError(f"The secret {arn} {error}.") from None


def conninfo_of(text: str, base: str | None, arn: str) -> str:
    """What a secret's text and the settings' conninfo say together. Raises SecretError, without the text."""
    secret, said = _parts(text, arn), conninfo_to_dict(base or "")
    if not secret.get("user") or not secret.get("password"):
        raise SecretError(
            f'The secret {arn} has no user and password: it must contain "username" and "password", or a URI.'
        )
    if not (said.get("host") or secret.get("host")):
        raise SecretError(
            f"The secret {arn} has no host: set SLACKWATER_DATABASE_URI to postgresql://HOST/NAME, without a password."
        )
    login = {"user": secret["user"], "password": secret["password"]}
    return make_conninfo(**{**secret, **said, **login})


def _parts(text: str, arn: str) -> dict[str, Any]:
    """The secret in libpq's words."""
    if not text.lstrip().startswith("{"):
        try:
            return dict(conninfo_to_dict(text.strip()))
        except ProgrammingError:
            raise SecretError(
                f"The secret {arn} is neither RDS's JSON nor a URI that begins with postgresql://."
            ) from None
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise SecretError(f"The secret {arn} is not valid JSON.") from None
    names = {"username": "user", "password": "password", "host": "host", "port": "port", "dbname": "dbname"}
    return {word: str(fields[name]) for name, word in names.items() if fields.get(name)}


def _fetch(arn: str, force: bool) -> str:
    """The secret's text, from Powertools' cache unless `force`. Blocks. Raises SecretError."""
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
    from botocore.exceptions import BotoCoreError

    try:
        text = _provider(clients.region_of(arn)).get(arn, max_age=MAX_AGE_SECONDS, force_fetch=force)
    except (GetParameterError, BotoCoreError) as error:
        raise SecretError(
            f"The secret {arn} cannot be read ({error}): check its ARN, and allow secretsmanager:GetSecretValue."
        ) from error
    return text.decode() if isinstance(text, bytes) else str(text)


_providers: dict[Any, Any] = {}


def _provider(region: str | None) -> Any:
    """Powertools' provider over the process's client; its cache lives as long as that."""
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

    client = clients.client("secretsmanager", region)
    return _providers.setdefault(client, SecretsProvider(boto3_client=client))
