"""Every setting of the process, checked together before anything is opened.

Argument > environment (`SLACKWATER_…`, `.env`) > default. Units are in the names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from slackwater.errors import SettingsError
from slackwater.identity.keys import ApiKey
from slackwater.project.http import cors_of, prefix_of

T = TypeVar("T")

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
LAMBDA_POOL_MAX_SIZE = 4


class Settings(BaseSettings):
    """The process's settings. The names are the API: independent checks rely on them."""

    model_config = SettingsConfigDict(
        env_prefix="SLACKWATER_",
        env_file=".env",
        env_file_encoding="utf-8",
        # A template's parameter that was left out arrives as an empty text.
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        allow_inf_nan=False,
    )

    # Where things are
    project: Path = Path()
    """Folder with `langgraph.json`, or that file itself."""
    host: str = "127.0.0.1"
    port: int = Field(2024, ge=0, le=65535)
    database_uri: str | None = Field(
        None,
        repr=False,
        validation_alias=AliasChoices(
            "database_uri", "SLACKWATER_DATABASE_URI", "DATABASE_URI", "POSTGRES_URI", "DATABASE_URL"
        ),
    )
    """Postgres; without one an embedded server is started below `data_dir`."""
    database_secret_arn: str | None = None
    """A secret of AWS Secrets Manager: RDS's JSON, or a URI. It gives the user and the password, and whatever else
    `database_uri` does not say. It is read again when the server refuses the password."""
    database_iam: bool = False
    """Log in to RDS with an IAM token, made anew for each connection, as the user of `database_uri`."""
    migration_database_uri: str | None = Field(None, repr=False)
    """A direct connection for migrations when `database_uri` goes through a pooler."""
    data_dir: Path = Path(".slackwater")
    postgres_bin: Path | None = None
    """Folder with `initdb` and `postgres` for the embedded server, instead of the packaged ones."""

    # Who may call
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = ()
    """`name:sha256hex,…`, as `slackwater keys new` prints them. Without any, only loopback is served."""
    api_keys_secret_arn: str | None = None
    """A secret with more of them: the same text, or a JSON list of such texts. Read when the process starts."""
    authorizer: Literal["iam", "jwt", "lambda"] | None = None
    """On AWS Lambda: the gateway in front has checked who calls, and says so in the event. Ignored elsewhere."""
    max_body_bytes: int = Field(4_000_000, gt=0)
    mount_prefix: str | None = Field(
        None, validation_alias=AliasChoices("mount_prefix", "SLACKWATER_MOUNT_PREFIX", "MOUNT_PREFIX")
    )
    """A path below which everything is served, over `http.mount_prefix` of `langgraph.json`."""
    cors_allow_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validation_alias=AliasChoices(
            "cors_allow_origins", "SLACKWATER_CORS_ALLOW_ORIGINS", "CORS_ALLOW_ORIGINS"
        ),
    )
    """Origins whose pages may call, `https://a.example,…`; `*`, the default, is all."""
    cors_config: Annotated[dict[str, Any] | None, NoDecode] = Field(
        None, validation_alias=AliasChoices("cors_config", "SLACKWATER_CORS_CONFIG", "CORS_CONFIG")
    )
    """All of it: the object of `http.cors` in `langgraph.json`, in place of that one."""
    webhook_secret: str | None = Field(None, repr=False)
    """Signs webhooks: `whsec_` and base64, or any text."""

    # Stopping
    grace_seconds: float = Field(25.0, gt=0)
    """From SIGTERM to the deadline. Keep it below the platform's own grace period (Kubernetes: 30)."""
    drain_reserve_seconds: float = Field(2.0, gt=0)
    """Cut from the end of the grace period: runs still inside a node are cancelled then."""
    hard_reserve_seconds: float = Field(0.5, gt=0)
    """Cut from the drain reserve: cancelled runs have unwound by then, and states are written."""

    # Ownership
    lease_seconds: float = Field(30.0, gt=0)
    poll_seconds: float = Field(1.0, gt=0)
    sweep_seconds: float = Field(5.0, gt=0)
    wake: Literal["listen", "poll"] = "listen"
    """`listen`: one connection LISTENs for hints, so that other processes start work at once. `poll`: none
    (behind a transaction pooler hints never arrive, and polling alone is correct)."""
    max_handovers: int = Field(1000, ge=1)
    run_timeout_seconds: float = Field(86_400.0, ge=0)
    """How long a run may be worked on, in all its attempts together; then it ends `timeout`. 0: for ever."""
    max_concurrent_runs: int = Field(64, ge=0)
    """Runs at a time in this process; 0: serve the API only."""
    max_running_per_owner: int = Field(0, ge=0)
    """Runs of one owner at a time, in all processes together; the others wait. 0: no limit."""
    max_pending_per_owner: int = Field(0, ge=0)
    """Runs of one owner that wait, delayed ones too; one more is refused (429). 0: no limit."""
    handover: Literal["sqs", "invoke", "sweep"] | None = None
    """How others hear of a run that was handed over: see `handover_by`."""
    queue_url: str | None = None

    # Database
    pool_max_size: int = Field(10, ge=2)
    prepare: Literal["auto", "always", "never"] = "auto"
    """Whether statements are prepared: see `slackwater.postgres.lanes`."""
    statement_seconds: float = Field(30.0, gt=0)
    """Client-side bound of one statement."""

    # Streams
    event_retention_seconds: float = Field(86_400.0, ge=0)
    heartbeat_seconds: float = Field(5.0, gt=0)

    # AWS Lambda
    stream_page_seconds: float = Field(20.0, gt=0)
    """The longest page of a stream whose answer a gateway collects whole."""
    gateway_limit_seconds: float = Field(29.0, gt=0)
    """When the gateway gives up waiting for an answer."""
    after_response_seconds: float = Field(30.0, ge=0)
    """How long runs go on in the environment after the answer has gone out."""
    lambda_extension: bool = True
    """Hold the environment until its runs have ended or been handed over; without, the answer waits for that."""

    # Telemetry
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def load(cls, **arguments: Any) -> Settings:
        """The settings, with `arguments` over the environment; arguments that are None are left out.

        Raises SettingsError, whose text says in one sentence what to change.
        """
        try:
            return cls(**{name: value for name, value in arguments.items() if value is not None})
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _small_pool_on_lambda(cls, values: Any) -> Any:
        # Each of hundreds of environments has a pool, and works on few runs at a time.
        return {"pool_max_size": LAMBDA_POOL_MAX_SIZE, **values} if _on_lambda() else values

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ApiKey.parse(item) for item in value.split(",") if item.strip())
        return value

    @field_validator("cors_allow_origins", mode="before")
    @classmethod
    def _parse_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return value

    @field_validator("cors_config", mode="before")
    @classmethod
    def _parse_cors(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise ValueError('no JSON: write {"allow_origins": ["https://example.org"]}') from None
        return value if value is None else _or_sentence(cors_of, value, "config")

    @field_validator("mount_prefix")
    @classmethod
    def _a_path(cls, value: str | None) -> str | None:
        return _or_sentence(prefix_of, value, "the path") if value else None

    @field_validator("database_uri", "migration_database_uri")
    @classmethod
    def _postgres_only(cls, value: str | None) -> str | None:
        if not value:
            return None
        # SQLAlchemy's spelling is what many people have in their environment.
        scheme, separator, rest = value.partition("://")
        if separator and scheme.partition("+")[0] in ("postgres", "postgresql"):
            return f"postgresql://{rest}"
        if separator:
            raise ValueError(f"only postgresql:// is supported, not {scheme}://")
        return value

    @model_validator(mode="after")
    def _parts_add_up(self) -> Settings:
        if self.hard_reserve_seconds >= self.drain_reserve_seconds:
            raise ValueError(
                f"SLACKWATER_HARD_RESERVE_SECONDS ({self.hard_reserve_seconds:g}) is cut from "
                f"SLACKWATER_DRAIN_RESERVE_SECONDS ({self.drain_reserve_seconds:g}) and must be smaller: lower the first"
            )
        if self.drain_reserve_seconds >= self.grace_seconds:
            raise ValueError(
                f"SLACKWATER_DRAIN_RESERVE_SECONDS ({self.drain_reserve_seconds:g}) is cut from "
                f"SLACKWATER_GRACE_SECONDS ({self.grace_seconds:g}) and must be smaller: raise the second"
            )
        if self.poll_seconds > self.lease_seconds / 3:
            raise ValueError(
                f"SLACKWATER_POLL_SECONDS ({self.poll_seconds:g}) must be at most a third of "
                f"SLACKWATER_LEASE_SECONDS ({self.lease_seconds:g}): raise the lease"
            )
        return self

    @model_validator(mode="after")
    def _database_is_logged_in_to_in_one_way(self) -> Settings:
        ways = {
            "SLACKWATER_DATABASE_SECRET_ARN": self.database_secret_arn,
            "SLACKWATER_DATABASE_IAM": self.database_iam,
        }
        chosen = [name for name, way in ways.items() if way]
        if len(chosen) > 1:
            raise ValueError(f"{chosen[0]} and {chosen[1]} are two ways to log in: unset one of them")
        if chosen and self.database_uri is not None and has_password(self.database_uri):
            raise ValueError(
                f"The database URI has a password of its own, which {chosen[0]} would replace: take it out of the "
                f"URI, or unset {chosen[0]}"
            )
        if self.database_iam and self.database_uri is None:
            raise ValueError(
                "SLACKWATER_DATABASE_IAM=true needs SLACKWATER_DATABASE_URI, with the user and the host that the "
                "token is for: postgresql://USER@HOST/NAME"
            )
        return self

    @model_validator(mode="after")
    def _handovers_reach_somebody(self) -> Settings:
        if self.handover == "sqs" and not self.queue_url:
            raise ValueError(
                "SLACKWATER_HANDOVER=sqs needs SLACKWATER_QUEUE_URL: set it, or choose invoke or sweep"
            )
        if self.handover == "invoke" and not self.on_lambda:
            raise ValueError(
                "SLACKWATER_HANDOVER=invoke is for AWS Lambda, where the function invokes itself: unset it here"
            )
        if self.queue_url and self.queue_url.endswith(".fifo"):
            raise ValueError(
                "SLACKWATER_QUEUE_URL is a FIFO queue, which would deliver one wake-up after the other: use a standard "
                "queue"
            )
        return self

    @model_validator(mode="after")
    def _pages_end_before_the_gateway(self) -> Settings:
        if self.stream_page_seconds >= self.gateway_limit_seconds:
            raise ValueError(
                f"SLACKWATER_STREAM_PAGE_SECONDS ({self.stream_page_seconds:g}) must be smaller than "
                f"SLACKWATER_GATEWAY_LIMIT_SECONDS ({self.gateway_limit_seconds:g}): lower the first"
            )
        return self

    @property
    def handover_by(self) -> Literal["sqs", "invoke", "sweep"]:
        """How others hear of a run that was handed over: what was set, or SQS if there is a queue."""
        return self.handover or ("sqs" if self.queue_url else "sweep")

    def check_lambda(self) -> None:
        """Refuse to serve on AWS Lambda while anybody may call, or in processes that were forked.

        Elsewhere `check_bind` is the rule.
        """
        if self.on_lambda and "AWS_LAMBDA_MAX_CONCURRENCY" in os.environ:
            raise SettingsError(
                "This function takes several invocations at a time (AWS_LAMBDA_MAX_CONCURRENCY), for which the runtime "
                "forks the process, and that is not supported: take it off its capacity provider, so that Lambda starts an "
                "environment for each invocation."
            )
        if self.on_lambda and not (self.has_keys or self.authorizer):
            raise SettingsError(
                "On AWS Lambda nothing is served without an API key or an authorizer: run `slackwater keys new NAME` and "
                "put what it prints into SLACKWATER_API_KEYS, or set SLACKWATER_AUTHORIZER to the kind that stands in front."
            )

    def check_bind(self, host: str) -> None:
        """Refuse to listen beyond loopback while nobody needs a key."""
        if not self.has_keys and host not in LOOPBACK_HOSTS:
            raise SettingsError(
                f"Without an API key only loopback is served, not {host}: run `slackwater keys new NAME` "
                "and put what it prints into SLACKWATER_API_KEYS, or use --host 127.0.0.1."
            )

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return bool(self.api_keys or self.api_keys_secret_arn)

    @property
    def loopback_only(self) -> bool:
        """Whether nobody but this machine is served, as nobody needs a key. Elsewhere than here somebody always decides."""
        return not self.has_keys and not self.on_lambda

    @property
    def on_lambda(self) -> bool:
        """True inside an AWS Lambda execution environment, where no embedded server is ever started."""
        return _on_lambda()

    @property
    def has_database(self) -> bool:
        """Whether the settings name a database; else it is the embedded one."""
        return self.database_uri is not None or self.database_secret_arn is not None

    def redacted_database(self) -> str:
        """Where the database is, without its password, for logs and `doctor`."""
        if self.database_uri is None:
            return self.database_secret_arn or "embedded"
        parts = urlsplit(self.database_uri)
        host = parts.hostname or "local socket"
        return f"{host}:{parts.port or 5432}{parts.path}"


def _or_sentence(read: Callable[[object, str], T], value: object, place: str) -> T:
    try:
        return read(value, place)
    except SettingsError as error:
        raise ValueError(error.message) from None


def _on_lambda() -> bool:
    return "AWS_LAMBDA_RUNTIME_API" in os.environ


def has_password(uri: str) -> bool:
    """Whether a URI or a conninfo of words has a password in it; without psycopg, which takes long to import."""
    if "://" in uri:
        parts = urlsplit(uri)
        return bool(parts.password) or "password" in parse_qs(parts.query)
    return re.search(r"(?:^|\s)password\s*=", uri) is not None


def _sentence(error: ValidationError) -> str:
    """The first problem as one sentence that names the setting."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message if message.endswith(".") else message + "."
    name = str(first["loc"][0])
    setting = name if name.isupper() else f"SLACKWATER_{name.upper()}"
    # What our own checks refuse may be a secret, and they say themselves as much of it as may be said.
    given = "" if first["type"] == "value_error" else f" (it is {first['input']!r})"
    return f"{setting}: {message[:1].lower()}{message[1:]}{given}."
