"""What is known of the API's routes before they are built: path, resource, group, and whether they need authentication.

Routes are built with the first request for their module. Middleware in front of them decides by this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slackwater.project.http import RouteGroup

MODULES = {
    "assistants": "slackwater.api.assistants.routes",
    "threads": "slackwater.api.threads.routes",
    "runs": "slackwater.api.runs.routes",
    "store": "slackwater.api.store.routes",
    "crons": "slackwater.api.crons.routes",
    "accounts": "slackwater.api.accounts.routes",
    "mcp": "slackwater.protocols.mcp.routes",
    "a2a": "slackwater.protocols.a2a.routes",
    "protocol": "slackwater.protocols.events.routes",
    "system": "slackwater.api.system.routes",
}
"""The module with the routes of each resource. Whatever has no module, including FastAPI's own `/openapi.json`, belongs to `system`."""

FIRST = ("runs", "threads")
"""The most requested resources: a router tries its routes in order."""

FIXED = frozenset({"batch", "cancel", "checkpoint", "count", "crons", "prune", "search", "stream", "wait"})
"""Last segments of paths that are not ids, although there are routes with an id in that place."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The routes of a set of paths."""

    path: str
    """`*` matches one segment; a final `/**` any number of segments, including none."""
    resource: str = "system"
    group: RouteGroup | None = None
    """The group that they can be disabled with; None if they cannot."""
    public: bool = False
    """Served without authentication: they reveal nothing about anyone's data."""
    probe: bool = False
    """A liveness or readiness probe: a custom app cannot override it."""
    reserved: bool = False
    """A custom app cannot override it, unless its group is disabled."""
    at_the_root: bool = False
    """Also served without the mount prefix, where load balancers and platforms expect it."""
    scope: str | None = None
    """What a key needs for all requests; if None, `read` for GET and `run` for others. See `slackwater.identity.scopes`."""
    when_closed: bool = False
    """Served even while runs are settled: it reports what a stop did."""
    _parts: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _open: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fixed = self.path.removesuffix("/**")
        object.__setattr__(self, "_parts", tuple(fixed.strip("/").split("/")))
        object.__setattr__(self, "_open", fixed != self.path)

    @property
    def first(self) -> str:
        """The first segment, by which it is looked up."""
        return self._parts[0]

    def covers(self, parts: Sequence[str]) -> bool:
        """Whether it matches a path."""
        own = self._parts
        if len(parts) < len(own) or (len(parts) > len(own) and not self._open):
            return False
        # `own` is the shorter one.
        return all(mine in ("*", part) for mine, part in zip(own, parts, strict=False))


TABLE = (
    Entry("/ok", public=True, probe=True, at_the_root=True),
    Entry("/ready", public=True, probe=True, at_the_root=True),
    Entry("/health", public=True, probe=True, at_the_root=True),
    Entry("/", group=RouteGroup.META, public=True, at_the_root=True),
    Entry("/info", group=RouteGroup.META, public=True),
    Entry("/docs", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/oauth2-redirect", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/swagger-ui.css", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/swagger-ui-bundle.js", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/oauth2-redirect.js", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/start.js", group=RouteGroup.META, public=True, reserved=True),
    Entry("/openapi.json", group=RouteGroup.META, public=True, reserved=True),
    Entry(
        "/metrics", group=RouteGroup.META, reserved=True, at_the_root=True, scope="metrics", when_closed=True
    ),
    Entry("/assistants/search", "assistants", RouteGroup.ASSISTANTS, scope="read"),
    Entry("/assistants/count", "assistants", RouteGroup.ASSISTANTS, scope="read"),
    Entry("/assistants/*/versions", "assistants", RouteGroup.ASSISTANTS, scope="read"),
    Entry("/assistants/**", "assistants", RouteGroup.ASSISTANTS),
    Entry("/threads/*/commands", "protocol", RouteGroup.EVENT_STREAMING),
    Entry("/threads/*/stream/events", "protocol", RouteGroup.EVENT_STREAMING, scope="read"),
    Entry("/threads/*/runs/crons/**", "crons", RouteGroup.CRONS),
    Entry("/threads/*/runs/**", "runs", RouteGroup.RUNS),
    Entry("/threads/search", "threads", RouteGroup.THREADS, scope="read"),
    Entry("/threads/count", "threads", RouteGroup.THREADS, scope="read"),
    Entry("/threads/*/history", "threads", RouteGroup.THREADS, scope="read"),
    Entry("/threads/*/state/checkpoint", "threads", RouteGroup.THREADS, scope="read"),
    Entry("/threads/**", "threads", RouteGroup.THREADS),
    Entry("/runs/crons/search", "crons", RouteGroup.CRONS, scope="read"),
    Entry("/runs/crons/count", "crons", RouteGroup.CRONS, scope="read"),
    Entry("/runs/crons/**", "crons", RouteGroup.CRONS),
    Entry("/runs/**", "runs", RouteGroup.RUNS),
    Entry("/store/items/search", "store", RouteGroup.STORE, scope="read"),
    Entry("/store/namespaces", "store", RouteGroup.STORE, scope="read"),
    Entry("/store/**", "store", RouteGroup.STORE),
    Entry("/mcp/**", "mcp", RouteGroup.MCP),
    Entry("/a2a/**", "a2a", RouteGroup.A2A),
    Entry("/.well-known/agent-card.json", "a2a", RouteGroup.A2A),
    Entry("/.well-known/agent.json", "a2a", RouteGroup.A2A),
    Entry("/api/v1/auth/setup-status", "accounts", public=True),
    Entry("/api/v1/auth/setup", "accounts", public=True),
    Entry("/api/v1/auth/initialize", "accounts", public=True),
    Entry("/api/v1/auth/register", "accounts", public=True),
    Entry("/api/v1/auth/login/local", "accounts", public=True),
    Entry("/api/v1/auth/token", "accounts", public=True),
    Entry("/api/v1/auth/logout", "accounts", public=True),
    Entry("/api/v1/auth/me", "accounts"),
    Entry("/api/v1/auth/change-password", "accounts"),
    Entry("/api/v1/auth/sessions/**", "accounts"),
    Entry("/api/v1/auth/users/**", "accounts", scope="admin"),
    Entry("/ui/**", group=RouteGroup.UI),
)
"""The first entry that matches a path applies."""

ACCOUNTS = "/api/v1/auth/"
"""Below it are the routes of accounts, on servers that have some. There the table says nothing where they have none."""

PUBLIC = frozenset(entry.path for entry in TABLE if entry.public and entry.resource != "accounts")
PUBLIC_ACCOUNTS = frozenset(entry.path for entry in TABLE if entry.public and entry.resource == "accounts")
PROBES = frozenset(entry.path for entry in TABLE if entry.probe)
RESERVED = PROBES | {entry.path for entry in TABLE if entry.reserved}
AT_THE_ROOT = frozenset(entry.path for entry in TABLE if entry.at_the_root)
WHEN_CLOSED = frozenset(entry.path for entry in TABLE if entry.when_closed)

_BY_FIRST = {
    first: tuple(entry for entry in TABLE if entry.first == first)
    for first in {entry.first for entry in TABLE}
}
_SYSTEM = frozenset({MODULES["system"]})


def entry_of(path: str) -> Entry | None:
    """The entry for a path without prefixes; None if there is no such route."""
    return _find(path.strip("/").split("/"))


def group_of(path: str) -> RouteGroup | None:
    """The group of a route, by its path; None if it cannot be disabled."""
    entry = entry_of(path)
    return entry.group if entry is not None else None


def modules_for(path: str) -> frozenset[str]:
    """The modules that may contain the route of a path."""
    parts = path.split("/")
    found: set[str] = set()
    # From any segment on, as a proxy's prefix may come first. Too many modules only cost time.
    for at, part in enumerate(parts):
        if part in _BY_FIRST and (entry := _find(parts[at:])) is not None and entry.resource != "system":
            found.add(MODULES[entry.resource])
            if entry.resource == "crons":
                found.add(MODULES["runs"])  # whose ids may have any form
    return frozenset(found) or _SYSTEM


def _find(parts: Sequence[str]) -> Entry | None:
    return next((entry for entry in _BY_FIRST.get(parts[0], ()) if entry.covers(parts)), None)
