"""All settings of the process, checked together before anything is opened.

An argument takes precedence over the environment (`SLACKWATER_…`, `.env`), which takes precedence over the default.
Units are in the names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from slackwater.blobs.place import place_of
from slackwater.errors import SettingsError
from slackwater.identity.keys import ApiKey
from slackwater.identity.oidc.provider import NAME as OIDC_NAME
from slackwater.identity.oidc.provider import Provider, domain_of, is_safe_url, providers_of
from slackwater.identity.signing.encryption import Encryption
from slackwater.project.http import cors_of, origin_of, prefix_of
from slackwater.project.project import has_auth

T = TypeVar("T")

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
LAMBDA_POOL_MAX_SIZE = 4

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


class Settings(BaseSettings):
    """The process's settings. The names are the API: independent checks rely on them."""

    model_config = SettingsConfigDict(
        env_prefix="SLACKWATER_",
        env_file=".env",
        env_file_encoding="utf-8",
        # A template parameter that was left out arrives as an empty string.
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        allow_inf_nan=False,
    )

    # Where things are
    project: Path = Path()
    """Folder that contains `langgraph.json`, or the file itself."""
    host: str = "127.0.0.1"
    port: int = Field(2024, ge=0, le=65535)
    database_uri: str | None = Field(
        None,
        repr=False,
        validation_alias=AliasChoices(
            "database_uri", "SLACKWATER_DATABASE_URI", "DATABASE_URI", "POSTGRES_URI", "DATABASE_URL"
        ),
    )
    """Postgres; if unset, an embedded server is started in `data_dir`."""
    database_secret_arn: str | None = None
    """A secret in AWS Secrets Manager: RDS's JSON, or a URI. It supplies the user and password, and whatever else
    `database_uri` leaves out. It is read again when the server refuses the password."""
    database_iam: bool = False
    """Log in to RDS with an IAM token, created for each connection, as the user in `database_uri`."""
    migration_database_uri: str | None = Field(None, repr=False)
    """A direct connection for migrations when `database_uri` goes through a pooler."""
    data_dir: Path = Path(".slackwater")
    postgres_bin: Path | None = None
    """Folder with `initdb` and `postgres` for the embedded server, instead of the bundled ones."""

    gateway: bool = False
    """Serve the gateway's routes and its dialect below `/api`, for DeerFlow's own page and channels."""
    blobs: str | None = None
    """Where files are kept: `file:PATH`, by default a folder in `data_dir`, or `s3://bucket/prefix`."""
    home_dir: Path | None = None
    """A folder of this process alone, in which the project's own code has its users' files, as DeerFlow in `DEER_FLOW_HOME`: they are
    fetched from the blobs and stored there."""

    mcp_commands: Annotated[tuple[str, ...], NoDecode] = ()
    """Executables by which MCP servers of the type `stdio` may be started, `npx,uvx`; if empty, none is."""
    mcp_variables: Annotated[tuple[str, ...], NoDecode] = ()
    """Variables of the environment that the configuration of MCP servers may name as `$NAME`, `GITHUB_TOKEN,…`; if empty, none."""

    # Who may call
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = ()
    """`name:sha256hex,…`, as printed by `slackwater keys new`. If empty, only loopback is served."""
    api_keys_secret_arn: str | None = None
    """A secret with more keys: the same format, or a JSON list of such strings. Read at startup."""
    database_keys: bool = False
    """Callers may also use keys in the database, as created by `slackwater keys create`."""
    encryption_key: str | None = Field(None, repr=False)
    """32 random bytes in base64, by which the keys that sign tokens, and MCP servers, are encrypted in the database; while it is being changed
    `new,old`."""
    encryption_key_secret_arn: str | None = None
    """A secret that contains it. Read at startup."""
    accounts: bool = False
    """People may log in, with accounts in the database."""
    setup: Literal["token", "open"] | None = None
    """How the first administrator is made: by the link that the log shows, or by whoever comes first. If unset, on this machine by
    whoever comes first, and from elsewhere by the link."""
    registration: Literal["open", "closed"] = "open"
    """Whether people may make accounts for themselves."""
    session_days: float = Field(7.0, ge=1, le=30)
    """How long a login lasts."""
    oidc_issuer: str | None = None
    """A provider of OpenID Connect that people may log in with: its identifier, as it writes it."""
    oidc_client_id: str | None = None
    oidc_client_secret: str | None = Field(None, repr=False)
    oidc_name: str = OIDC_NAME
    """What the provider is called in paths: it answers at `/api/v1/auth/callback/oidc`."""
    oidc_allowed_domains: Annotated[tuple[str, ...], NoDecode] = ()
    """Domains of e-mail addresses, `example.com,…`; if empty, all."""
    oidc_provision: bool = False
    """Whether somebody without an account gets one when they log in with the provider."""
    oidc_providers: Annotated[tuple[Provider, ...], NoDecode] = Field((), repr=False)
    """More of them: a JSON list of objects with `name`, `issuer`, `client_id`, `client_secret`, `allowed_domains` and `provision`."""
    public_url: str | None = None
    """Where browsers reach this server, if requests do not show it: `https://chat.example.com`."""
    authorizer: Literal["iam", "jwt", "lambda"] | None = None
    """On AWS Lambda: the gateway in front has authenticated the caller and says so in the event. Ignored elsewhere."""
    max_body_bytes: int = Field(4_000_000, gt=0)
    max_requests_per_minute_per_owner: int = Field(0, ge=0, le=1_000_000)
    """Requests of one owner, over all processes; one more is refused (429). 0: no limit."""
    mount_prefix: str | None = Field(
        None, validation_alias=AliasChoices("mount_prefix", "SLACKWATER_MOUNT_PREFIX", "MOUNT_PREFIX")
    )
    """A path under which everything is served; takes precedence over `http.mount_prefix` in `langgraph.json`."""
    cors_allow_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validation_alias=AliasChoices(
            "cors_allow_origins", "SLACKWATER_CORS_ALLOW_ORIGINS", "CORS_ALLOW_ORIGINS"
        ),
    )
    """Origins whose pages may call, `https://a.example,…`; `*`, the default, allows all."""
    cors_config: Annotated[dict[str, Any] | None, NoDecode] = Field(
        None, validation_alias=AliasChoices("cors_config", "SLACKWATER_CORS_CONFIG", "CORS_CONFIG")
    )
    """The whole CORS object, instead of `http.cors` in `langgraph.json`."""
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Addresses or networks of proxies, `10.0.0.0/8,…`, that are believed where a request came from, by which scheme and to which host.
    Ignored on AWS Lambda."""
    webhook_secret: str | None = Field(None, repr=False)
    """Signs webhooks: `whsec_` and base64, or any string."""

    # Stopping
    grace_seconds: float = Field(25.0, gt=0)
    """From SIGTERM to the deadline. Keep it below the platform's own grace period (Kubernetes: 30)."""
    drain_reserve_seconds: float = Field(2.0, gt=0)
    """Reserved at the end of the grace period: nodes still running are cancelled when it begins."""
    hard_reserve_seconds: float = Field(0.5, gt=0)
    """Reserved at the end of the drain reserve: by then cancelled runs have unwound, and states are written."""

    # Ownership
    lease_seconds: float = Field(30.0, gt=0)
    poll_seconds: float = Field(1.0, gt=0)
    sweep_seconds: float = Field(5.0, gt=0)
    wake: Literal["listen", "poll"] = "listen"
    """`listen`: one connection LISTENs for notifications, so that processes start work at once. `poll`: none
    (behind a transaction pooler notifications never arrive; polling alone is correct)."""
    max_handovers: int = Field(1000, ge=1)
    run_timeout_seconds: float = Field(86_400.0, ge=0)
    """How long a run may execute, over all its attempts; then it ends with `timeout`. 0: no limit."""
    max_recursion_limit: int = Field(10_000, ge=1)
    """The highest `recursion_limit` that a request or an assistant may set; a higher one is taken for this."""
    max_concurrent_runs: int = Field(64, ge=0)
    """Runs at a time in this process; 0: serve the API only."""
    max_running_per_owner: int = Field(0, ge=0)
    """Runs of one owner at a time, over all processes; the others wait. 0: no limit."""
    max_pending_per_owner: int = Field(0, ge=0)
    """Waiting runs of one owner, including delayed ones; one more is refused (429). 0: no limit."""
    max_streams_per_owner: int = Field(0, ge=0, le=10_000)
    """Streams of one owner that are open at a time, over all processes; one more is refused (429). 0: no limit."""
    max_crons_per_owner: int = Field(0, ge=0)
    """Crons of one owner; one more is refused (429). 0: no limit."""
    max_file_bytes_per_owner: int = Field(0, ge=0)
    """Bytes of all files of one owner; an upload beyond that is refused (413). 0: no limit."""
    handover: Literal["sqs", "invoke", "sweep"] | None = None
    """How other processes learn of a handed-over run: see `handover_by`."""
    queue_url: str | None = None

    # Database
    pool_max_size: int = Field(10, ge=2)
    prepare: Literal["auto", "always", "never"] = "auto"
    """Whether statements are prepared: see `slackwater.postgres.lanes`."""
    statement_seconds: float = Field(30.0, gt=0)
    """Client-side time limit of one statement."""

    # Streams
    event_retention_seconds: float = Field(86_400.0, ge=0)
    heartbeat_seconds: float = Field(5.0, gt=0)

    # The gateway's messages
    message_retention_days: float = Field(0.0, ge=0)
    """How long recorded messages are kept; 0: as long as their run."""

    # Audit
    audit_retention_days: float = Field(90.0, gt=0)

    # AWS Lambda
    stream_page_seconds: float = Field(20.0, gt=0)
    """The longest page of a stream behind a gateway that buffers whole responses."""
    gateway_limit_seconds: float = Field(29.0, gt=0)
    """How long the gateway waits for a response."""
    after_response_seconds: float = Field(30.0, ge=0)
    """How long runs continue in the environment after the response has been sent."""
    lambda_extension: bool = True
    """Keep the environment running until its runs have ended or been handed over; otherwise the response waits for them."""

    # Telemetry
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def load(cls, **arguments: Any) -> Settings:
        """The settings, with `arguments` over the environment; arguments that are None are left out.

        Raises SettingsError, whose message says in one sentence what to change.
        """
        try:
            return cls(**{name: value for name, value in arguments.items() if value is not None})
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _small_pool_on_lambda(cls, values: Any) -> Any:
        # There may be hundreds of environments, each with a pool of its own and few runs at a time.
        return {"pool_max_size": LAMBDA_POOL_MAX_SIZE, **values} if _on_lambda() else values

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ApiKey.parse(item) for item in value.split(",") if item.strip())
        return value

    @field_validator("mcp_commands", "mcp_variables", mode="before")
    @classmethod
    def _parse_names(cls, value: object) -> object:
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            return value
        for item in items:
            if item and not _NAME.fullmatch(item):
                raise ValueError(f"{item!r} is no name: write them without paths, separated by commas")
        return tuple(item for item in items if item)

    @field_validator("encryption_key")
    @classmethod
    def _an_encryption_key(cls, value: str | None) -> str | None:
        if value:
            Encryption.parse(value)
        return value or None

    @field_validator("oidc_allowed_domains", mode="before")
    @classmethod
    def _parse_domains(cls, value: object) -> object:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            return value
        return tuple(domain_of(item) for item in items if item)

    @field_validator("oidc_providers", mode="before")
    @classmethod
    def _parse_providers(cls, value: object) -> object:
        return providers_of(value) if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value and (not is_safe_url(value) or set("?#") & set(value)):
            raise ValueError("must be an https:// URL without a query, or http:// on loopback")
        return value.rstrip("/") if value else None

    @field_validator("cors_allow_origins", mode="before")
    @classmethod
    def _parse_origins(cls, value: object) -> object:
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            return value
        return tuple(_or_sentence(origin_of, item, "the list") for item in items if item)

    @field_validator("cors_config", mode="before")
    @classmethod
    def _parse_cors(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise ValueError('must be JSON, such as {"allow_origins": ["https://example.org"]}') from None
        return value if value is None else _or_sentence(cors_of, value, "config")

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _parse_networks(cls, value: object) -> object:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            return value
        return tuple(_network_of(str(item).strip()) for item in items if str(item).strip())

    @field_validator("blobs")
    @classmethod
    def _a_place(cls, value: str | None) -> str | None:
        if value:
            place_of(value)
        return value or None

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
                f"SLACKWATER_HARD_RESERVE_SECONDS ({self.hard_reserve_seconds:g}) is part of "
                f"SLACKWATER_DRAIN_RESERVE_SECONDS ({self.drain_reserve_seconds:g}) and must be smaller: lower the first"
            )
        if self.drain_reserve_seconds >= self.grace_seconds:
            raise ValueError(
                f"SLACKWATER_DRAIN_RESERVE_SECONDS ({self.drain_reserve_seconds:g}) is part of "
                f"SLACKWATER_GRACE_SECONDS ({self.grace_seconds:g}) and must be smaller: raise the second"
            )
        if self.home_dir is not None and not self.gateway:
            raise ValueError("SLACKWATER_HOME_DIR needs SLACKWATER_GATEWAY=true, which keeps files")
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
            raise ValueError(f"{chosen[0]} and {chosen[1]} cannot be used together: unset one of them")
        if chosen and self.database_uri is not None and has_password(self.database_uri):
            raise ValueError(
                f"The database URI has a password, which {chosen[0]} would replace: remove it from the "
                f"URI, or unset {chosen[0]}"
            )
        if self.database_iam and self.database_uri is None:
            raise ValueError(
                "SLACKWATER_DATABASE_IAM=true needs SLACKWATER_DATABASE_URI with the user and host that the "
                "token is for: postgresql://USER@HOST/NAME"
            )
        return self

    @model_validator(mode="after")
    def _encryption_key_is_in_one_place(self) -> Settings:
        if self.encryption_key and self.encryption_key_secret_arn:
            raise ValueError(
                "SLACKWATER_ENCRYPTION_KEY and SLACKWATER_ENCRYPTION_KEY_SECRET_ARN cannot be used together: unset one of them"
            )
        return self

    @model_validator(mode="after")
    def _providers_log_people_in(self) -> Settings:
        if not self.accounts and (self.oidc_issuer or self.oidc_providers):
            raise ValueError("SLACKWATER_OIDC_… logs people in: set SLACKWATER_ACCOUNTS=true, or unset it")
        if not self.oidc_issuer and self.oidc_client_id:
            raise ValueError("SLACKWATER_OIDC_CLIENT_ID needs SLACKWATER_OIDC_ISSUER: whose client is it?")
        providers = self.login_providers
        for values in ([one.name for one in providers], [one.issuer for one in providers]):
            if len(set(values)) < len(values):
                raise ValueError(
                    "SLACKWATER_OIDC_PROVIDERS: names and issuers must be different from each other"
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
                "SLACKWATER_QUEUE_URL is a FIFO queue, which delivers wake-ups one at a time: use a standard "
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

    @model_validator(mode="after")
    def _heartbeats_reach_pages(self) -> Settings:
        if self.gateway and self.heartbeat_seconds >= 30:
            raise ValueError(
                f"SLACKWATER_HEARTBEAT_SECONDS ({self.heartbeat_seconds:g}) must be less than 30 with SLACKWATER_GATEWAY: the proxy of "
                "its page gives up after 30 seconds without a byte"
            )
        return self

    @property
    def handover_by(self) -> Literal["sqs", "invoke", "sweep"]:
        """How other processes learn of a handed-over run: the setting, or SQS if there is a queue."""
        return self.handover or ("sqs" if self.queue_url else "sweep")

    def check_lambda(self) -> None:
        """Refuse to serve on AWS Lambda without authentication, or in forked processes.

        Elsewhere `check_bind` applies.
        """
        if self.on_lambda and "AWS_LAMBDA_MAX_CONCURRENCY" in os.environ:
            raise SettingsError(
                "This function takes several invocations at a time (AWS_LAMBDA_MAX_CONCURRENCY), for which the runtime "
                "forks the process; that is not supported: remove its capacity provider, so that Lambda starts an "
                "environment for each invocation."
            )
        if self.on_lambda and self.gateway and not (self.blobs or "").startswith("s3:"):
            raise SettingsError(
                "On AWS Lambda files cannot be kept in a folder, which no other environment sees: set SLACKWATER_BLOBS to "
                "s3://bucket/prefix, or SLACKWATER_GATEWAY=false."
            )
        if self.on_lambda and not (self.authorizer or self.asks_who_calls):
            raise SettingsError(
                "On AWS Lambda nothing is served without an API key or an authorizer: run `slackwater keys new NAME` and "
                "put its output into SLACKWATER_API_KEYS, or set SLACKWATER_AUTHORIZER to the kind of authorizer in front."
            )

    def check_bind(self, host: str) -> None:
        """Refuse to listen beyond loopback while no key is required."""
        if not self.asks_who_calls and host not in LOOPBACK_HOSTS:
            raise SettingsError(
                f"Without an API key only loopback is served, not {host}: run `slackwater keys new NAME` "
                "and put its output into SLACKWATER_API_KEYS, or use --host 127.0.0.1."
            )

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return bool(self.api_keys or self.api_keys_secret_arn or self.database_keys)

    @cached_property
    def login_providers(self) -> tuple[Provider, ...]:
        """All that people may log in with. Raises ValueError."""
        if not self.oidc_issuer:
            return self.oidc_providers
        first = Provider.of(
            {
                "name": self.oidc_name,
                "issuer": self.oidc_issuer,
                "client_id": self.oidc_client_id,
                "client_secret": self.oidc_client_secret,
                "allowed_domains": self.oidc_allowed_domains,
                "provision": self.oidc_provision,
            }
        )
        return (first, *self.oidc_providers)

    @property
    def signs_tokens(self) -> bool:
        """Whether callers may use tokens that we have signed: where the database says who may call."""
        return self.database_keys or self.accounts

    @property
    def asks_who_calls(self) -> bool:
        """Whether callers need credentials that the server itself checks."""
        return self.has_keys or self.has_auth or self.accounts

    @property
    def loopback_only(self) -> bool:
        """Whether only this machine is served, because no key is required. On AWS Lambda callers are always authenticated."""
        return not (self.on_lambda or self.asks_who_calls)

    @cached_property
    def has_auth(self) -> bool:
        """Whether the project's own `auth` says who calls. Raises SettingsError if its file cannot be read."""
        return has_auth(self.project)

    @property
    def on_lambda(self) -> bool:
        """Whether this is an AWS Lambda execution environment, where no embedded server is ever started."""
        return _on_lambda()

    @property
    def own_url(self) -> str:
        """Where this machine reaches the server, as far as the settings say."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104 - none is bound
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}{self.mount_prefix or ''}"

    @property
    def has_database(self) -> bool:
        """Whether the settings name a database; otherwise the embedded one is used."""
        return self.database_uri is not None or self.database_secret_arn is not None

    def redacted_database(self) -> str:
        """Where the database is, without its password, for logs and `doctor`."""
        if self.database_uri is None:
            return self.database_secret_arn or "embedded"
        parts = urlsplit(self.database_uri)
        host = parts.hostname or "local socket"
        return f"{host}:{parts.port or 5432}{parts.path}"


def _or_sentence(read: Callable[[Any, str], T], value: object, place: str) -> T:
    try:
        return read(value, place)
    except SettingsError as error:
        raise ValueError(error.message) from None


def _network_of(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is no address and no network: write them as 10.0.0.7 or 10.0.0.0/8"
        ) from None
    raise ValueError(
        f"{text!r} is an address inside a network: write {meant} for all of it, or the address alone"
    )


def _on_lambda() -> bool:
    return "AWS_LAMBDA_RUNTIME_API" in os.environ


def has_password(uri: str) -> bool:
    """Whether a URI or a keyword conninfo contains a password; without psycopg, which is slow to import."""
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
    # A value that our own checks refuse may be a secret; they quote as much of it as is safe.
    given = "" if first["type"] == "value_error" else f" (it is {first['input']!r})"
    return f"{setting}: {message[:1].lower()}{message[1:]}{given}."
