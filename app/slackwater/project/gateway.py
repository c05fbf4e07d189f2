"""What `langgraph.json` says of the routes below `/api`: `gateway`. They are switched on by SLACKWATER_GATEWAY."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from slackwater.errors import SettingsError

MEBIBYTE = 1024 * 1024

CHANGEABLE = ("models", "token_usage", "uploads", "agents", "memory", "suggestions")
"""The keys that administrators may change while processes run. The others are code, or guard it."""

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)|\${([A-Za-z_][A-Za-z0-9_]*)}")

_SENDABLE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
"""What a header can hold, as it is. A line end that came with a secret would make each request with it fail."""

_SECRET = re.compile(
    r"(key|secret|secret_id|password|passphrase|token|auth|authorization|credentials|connection_string)$",
    re.IGNORECASE,
)
"""The names of arguments that are secrets: these stay in the environment, and do not go into the database."""

_SECRET_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)
"""Of a URL with a user or a password in it."""

_OURS = re.compile(r"SLACKWATER_|AWS_|PG|DATABASE_U|POSTGRES_U")
"""Variables that open more than a model. Whoever can write to the database must not have them sent anywhere."""


class _Part(BaseModel):
    """A part of `gateway`, in which no key is misspelled silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LlmModel(_Part):
    """A model that runs may ask for by its name."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    model: Annotated[str, Field(min_length=1)]
    """As `init_chat_model` takes it: `openai:gpt-5`."""
    display_name: str | None = None
    description: str | None = None
    args: dict[str, Any] = {}
    """For `init_chat_model`; `$NAME` stands for a variable of the environment. Never shown to anybody."""
    supports_thinking: bool = False
    supports_reasoning_effort: bool = False

    def arguments(self) -> dict[str, Any]:
        """`args` with the values of the environment. Raises SettingsError, which names the variable."""
        return {key: self._resolved(value) for key, value in self.args.items()}

    def unfit(self, of_others: Collection[str]) -> str | None:
        """Why it may not come from the database, where others can read and write it; None if it may.

        `of_others`: variables that are for something else than models.
        """
        for key, text in _texts(self.args, ""):
            name = _NAME.fullmatch(text)
            if name is None and (_SECRET.search(key) or _SECRET_URL.match(text)):
                return f"{self.name}: args.{key}: write $NAME, and put the secret into the environment"
            variable = name and (name[1] or name[2])
            if variable and (_OURS.match(variable) or variable in of_others):
                return f"{self.name}: args.{key}: {variable} is not for models"
        return None

    def _resolved(self, value: Any) -> Any:
        match value:
            case str():
                name = _NAME.fullmatch(value)
                if name is None:
                    return value
                variable = name[1] or name[2]
                if variable not in os.environ:
                    raise SettingsError(
                        f"gateway.models: {self.name}: the environment has no {variable}: set it, or change args."
                    )
                return os.environ[variable]
            case dict():
                return {key: self._resolved(item) for key, item in value.items()}
            case list():
                return [self._resolved(item) for item in value]
        return value


class TokenUsage(_Part):
    """Whether pages show how many tokens a thread has used. They are counted in any case."""

    enabled: bool = False


class Uploads(_Part):
    """How much one request may upload."""

    max_files: int = Field(default=10, ge=1, le=1000)
    max_file_size: int = Field(default=50 * MEBIBYTE, ge=1)
    """In bytes."""
    max_total_size: int = Field(default=100 * MEBIBYTE, ge=1)
    """In bytes."""
    auto_convert_documents: bool = False
    """Whether documents are also kept as Markdown. Needs the extra `documents`."""


class Agents(_Part):
    """Agents that users make."""

    enabled: bool = False


class Suggestions(_Part):
    """What a user may ask next."""

    enabled: bool = True
    model: str | None = None
    """The name of a configured model; without one, the model of the conversation or the first one."""


class MemorySpec(_Part):
    """What is remembered of each user, and what of it models are told."""

    enabled: bool = True
    """Whether what is said is remembered, and told. What users write themselves is kept in any case."""
    debounce_seconds: int = Field(default=30, ge=1, le=300)
    """So long nothing more must be said on a thread before a model reads it."""
    max_facts: int = Field(default=100, ge=10, le=500)
    """Of more, those with the least confidence are forgotten when a model adds one."""
    fact_confidence_threshold: float = Field(default=0.7, ge=0, le=1)
    """What a model is less sure of is not kept."""
    injection_enabled: bool = True
    max_injection_tokens: int = Field(default=2000, ge=100, le=8000)
    model: str | None = None
    """The name of a configured model; without one, the first."""


class ChannelKind(StrEnum):
    """Who speaks by a channel, and how."""

    WEBHOOK = "webhook"
    """Anybody who signs as Standard Webhooks do."""
    SLACK = "slack"
    """An app of Slack: its events come in, answers are posted as its bot."""


Variable = Annotated[
    str, StringConstraints(pattern=r"^\$([A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})$")
]
"""`$NAME`: a variable of the environment. A secret is never written into the file itself."""

Url = Annotated[str, StringConstraints(pattern=r"^https?://[\x21-\x7e]+$", max_length=2048)]


class ChannelSpec(_Part):
    """By what others begin and continue threads of an owner without a key."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    kind: ChannelKind
    owner: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """Whose the threads and runs are."""
    assistant: Annotated[str, StringConstraints(min_length=1)]
    """The id of a graph or of an assistant."""
    secret: Variable
    """What deliveries are signed with."""
    reply: Url | None = None
    """Of a webhook: the URL that is told of each run's end."""
    token: Variable | None = None
    """Of Slack: that of the bot (`xoxb-…`)."""
    api: Url | None = None
    """Of Slack, if its API is not at https://slack.com/api."""

    @model_validator(mode="after")
    def _as_its_kind_needs(self) -> ChannelSpec:
        slack = self.kind is ChannelKind.SLACK
        if slack and self.token is None:
            raise ValueError("a channel of kind slack needs token, such as $SLACK_BOT_TOKEN")
        if slack and self.reply is not None:
            raise ValueError("a channel of kind slack has no reply: its answers are posted in Slack")
        if not slack and (self.token is not None or self.api is not None):
            raise ValueError("token and api are for channels of kind slack")
        return self

    @property
    def variables(self) -> set[str]:
        """The names of those in which its secrets are."""
        return {variable.strip("${}") for variable in (self.secret, self.token) if variable is not None}

    def resolved(self, variable: str) -> str:
        """The value of `$NAME`. Raises SettingsError, which names it."""
        name = variable.strip("${}")
        if not os.environ.get(name):
            raise SettingsError(f"gateway.channels: {self.name}: the environment has no {name}: set it.")
        if not _SENDABLE.fullmatch(os.environ[name]):
            raise SettingsError(
                f"gateway.channels: {self.name}: {name} must be printable ASCII on one line, without spaces around it."
            )
        return os.environ[name]


class GatewaySpec(_Part):
    """`gateway`."""

    models: tuple[LlmModel, ...] = ()
    token_usage: TokenUsage = TokenUsage()
    uploads: Uploads = Uploads()
    agents: Agents = Agents()
    memory: MemorySpec = MemorySpec()
    suggestions: Suggestions = Suggestions()
    skills: Path | None = None
    """A folder, relative to the file."""
    skills_scanner: str | None = None
    """The name of the configured model that judges skills before they are kept; without one all are."""
    channels: tuple[ChannelSpec, ...] = ()

    @classmethod
    def read(cls, value: object, file: Path) -> GatewaySpec:
        """From the value of `gateway` in `file`. Raises SettingsError."""
        if value is None:
            return cls()
        spec = cls._checked(value, f"{file}: ")
        if spec.skills is None:
            return spec
        folder = (file.parent / spec.skills).resolve()
        if not folder.is_dir():
            raise SettingsError(f"{file}: gateway.skills: there is no folder {spec.skills}.")
        return spec.model_copy(update={"skills": folder})

    def changed_by(self, change: Mapping[str, Any]) -> GatewaySpec:
        """What it is with `change` laid over it, key by key. Raises SettingsError."""
        if strange := [key for key in change if key not in CHANGEABLE]:
            raise SettingsError(
                f"gateway.{strange[0]} cannot be changed at run time; {', '.join(CHANGEABLE)} can."
            )
        spec = self._checked(laid_over(self.model_dump(exclude_unset=True), change), "")
        of_channels = {name for channel in spec.channels for name in channel.variables}
        unfit = filter(None, (model.unfit(of_channels) for model in spec.models))
        if "models" in change and (why := next(unfit, None)):
            raise SettingsError(f"gateway.models: {why}.")
        return spec

    @classmethod
    def _checked(cls, value: object, place: str) -> GatewaySpec:
        try:
            spec = cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["gateway", *map(str, first["loc"])])
            problem = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{place}{where}: {problem}.") from None
        names = [model.name for model in spec.models]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SettingsError(f"{place}gateway.models: there are several named {twice}.")
        channels = [channel.name for channel in spec.channels]
        if twice := next((name for name in channels if channels.count(name) > 1), None):
            raise SettingsError(f"{place}gateway.channels: there are several named {twice}.")
        asked = {
            "suggestions.model": spec.suggestions.model,
            "memory.model": spec.memory.model,
            "skills_scanner": spec.skills_scanner,
        }
        for key, wanted in asked.items():
            if wanted is not None and wanted not in names:
                raise SettingsError(
                    f"{place}gateway.{key}: {wanted!r} is none of gateway.models: {', '.join(names) or 'there are none'}."
                )
        return spec

    @property
    def memory_model(self) -> LlmModel | None:
        """What reads what was said; None if nothing is remembered of it."""
        if not self.memory.enabled or not self.models:
            return None
        return self.model(self.memory.model) if self.memory.model is not None else self.models[0]

    def model(self, name: str) -> LlmModel | None:
        """The configured model of that name."""
        return next((model for model in self.models if model.name == name), None)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`: objects are merged, null takes a key away, and all else replaces (RFC 7396)."""
    merged = dict(below)
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            there = merged.get(key)
            merged[key] = laid_over(there if isinstance(there, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """The texts in a JSON value, each with the keys that lead to it."""
    match value:
        case str():
            yield place, value
        case dict():
            for key, item in value.items():
                yield from _texts(item, f"{place}.{key}" if place else str(key))
        case list():
            for item in value:
                yield from _texts(item, place)
