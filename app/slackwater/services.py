"""What the process opens once and shares between all requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slackwater.graphs.registry import Graphs
from slackwater.identity.audit.refusals import Refusals
from slackwater.identity.limits.requests import RequestLimits
from slackwater.identity.origins import NO_ORIGINS, Origins
from slackwater.postgres.pool import Database
from slackwater.runtime.process.stop import Stop
from slackwater.runtime.runtime import Runtime
from slackwater.settings import Settings
from slackwater.web.bodies import ByteQuota
from slackwater.web.in_process import InProcess
from slackwater.web.route_table import Feature
from slackwater.webhooks.policy import Policy

if TYPE_CHECKING:
    from slackwater.blobs.blobs import Blobs
    from slackwater.channels.configured import Channel
    from slackwater.identity.accounts.service import Accounts
    from slackwater.identity.custom.authenticator import CustomAuth
    from slackwater.identity.oidc.service import Oidc
    from slackwater.identity.sessions import Sessions
    from slackwater.identity.signing.service import Signing
    from slackwater.identity.stored_keys.valid import ValidKeys
    from slackwater.workspace.configuration.watch import ConfigurationWatch
    from slackwater.workspace.llm_models.built import ChatModels
    from slackwater.workspace.mcp_servers.kept import KeptMcpConfig
    from slackwater.workspace.skills.public import PublicSkill


@dataclass(frozen=True, slots=True)
class Services:
    """Available to every request as `request.state.services`."""

    settings: Settings
    database: Database
    graphs: Graphs
    runtime: Runtime
    stop: Stop
    webhooks: Policy
    bodies: ByteQuota
    answers: ByteQuota
    in_process: InProcess
    requests: RequestLimits
    """How many each owner may send, and how many streams they may have open."""
    refusals: Refusals
    keys: ValidKeys | None = None
    """Those in the database, if callers may use such."""
    signing: Signing | None = None
    """The keys of our own tokens, if callers may use such."""
    auth: CustomAuth | None = None
    """The project's own authentication."""
    accounts: Accounts | None = None
    """Those of people who log in."""
    sessions: Sessions | None = None
    """Those that they have begun."""
    listed: Origins = NO_ORIGINS
    """Whose pages may call with their users' cookies."""
    oidc: Oidc | None = None
    """The providers that they may log in with."""
    chat_models: ChatModels | None = None
    """Those of `gateway.models`, if there is a gateway."""
    blobs: Blobs | None = None
    """Where the bytes of files are, if there is the gateway."""
    public_skills: Mapping[str, PublicSkill] = field(default_factory=dict)
    """Those of the project, by name, if there is the gateway."""
    configuration: ConfigurationWatch | None = None
    """What keeps `graphs.gateway` at what administrators have set, if there is the gateway."""
    channels: Mapping[str, Channel] = field(default_factory=dict)
    """By which others start runs without a key, by name, if there is the gateway."""
    mcp_config: KeptMcpConfig | None = None
    """The MCP servers that graphs have tools of, if there is the gateway."""

    @property
    def features(self) -> frozenset[Feature]:
        """What this server has of what not every server has."""
        there = {Feature.ACCOUNTS: self.accounts is not None, Feature.GATEWAY: self.settings.gateway}
        return frozenset(feature for feature, is_there in there.items() if is_there)
