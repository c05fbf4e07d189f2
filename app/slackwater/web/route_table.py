"""What is known of the API's routes before they are built: where they are, what they belong to, whom they answer.

Routes are made with the first request for their module. Who stands in front of them decides by this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slackwater.project.http import Group

MODULES = {
    "assistants": "slackwater.api.assistants.routes",
    "threads": "slackwater.api.threads.routes",
    "runs": "slackwater.api.runs.routes",
    "store": "slackwater.api.store.routes",
    "crons": "slackwater.api.crons.routes",
    "mcp": "slackwater.protocols.mcp.routes",
    "a2a": "slackwater.protocols.a2a.routes",
    "protocol": "slackwater.protocols.events.routes",
    "system": "slackwater.api.system.routes",
}
"""The modules with the routes of a resource. What is in no other, FastAPI's own document included, is the system's."""

FIRST = ("runs", "threads")
"""What is asked for most: a router tries its routes in their order."""

FIXED = frozenset({"batch", "cancel", "checkpoint", "count", "crons", "prune", "search", "stream", "wait"})
"""Ends of paths that are no ids, although there are routes with an id in their place."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The routes of some paths."""

    path: str
    """`*` stands for one part of it; `/**` at its end for any number of parts, and for none."""
    resource: str = "system"
    group: Group | None = None
    """They are switched off with it. None: they cannot be."""
    public: bool = False
    """Answered to anybody: they say nothing about anyone's data."""
    probe: bool = False
    """A platform decides by it whether the process lives: no project has a route in its place."""
    reserved: bool = False
    """No project has a route in its place, unless the group is switched off."""
    at_the_root: bool = False
    """Answered without the mount prefix, too: load balancers and platforms look there."""
    to_the_end: bool = False
    """Answered also while states are written: what a stop did is in it."""
    _parts: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _open: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fixed = self.path.removesuffix("/**")
        object.__setattr__(self, "_parts", tuple(fixed.strip("/").split("/")))
        object.__setattr__(self, "_open", fixed != self.path)

    @property
    def first(self) -> str:
        """The part of the path by which it is found."""
        return self._parts[0]

    def covers(self, parts: Sequence[str]) -> bool:
        """Whether a path is one of its own."""
        own = self._parts
        if len(parts) < len(own) or (len(parts) > len(own) and not self._open):
            return False
        # `own` is the shorter one.
        return all(mine in ("*", part) for mine, part in zip(own, parts, strict=False))


TABLE = (
    Entry("/ok", public=True, probe=True, at_the_root=True),
    Entry("/ready", public=True, probe=True, at_the_root=True),
    Entry("/health", public=True, probe=True, at_the_root=True),
    Entry("/", group=Group.META, public=True, at_the_root=True),
    Entry("/info", group=Group.META, public=True),
    Entry("/docs", group=Group.META, public=True, reserved=True),
    Entry("/docs/oauth2-redirect", group=Group.META),
    Entry("/openapi.json", group=Group.META, public=True, reserved=True),
    Entry("/metrics", group=Group.META, reserved=True, at_the_root=True, to_the_end=True),
    Entry("/assistants/**", "assistants", Group.ASSISTANTS),
    Entry("/threads/*/commands", "protocol", Group.EVENT_STREAMING),
    Entry("/threads/*/stream/events", "protocol", Group.EVENT_STREAMING),
    Entry("/threads/*/runs/crons/**", "crons", Group.CRONS),
    Entry("/threads/*/runs/**", "runs", Group.RUNS),
    Entry("/threads/**", "threads", Group.THREADS),
    Entry("/runs/crons/**", "crons", Group.CRONS),
    Entry("/runs/**", "runs", Group.RUNS),
    Entry("/store/**", "store", Group.STORE),
    Entry("/mcp/**", "mcp", Group.MCP),
    Entry("/a2a/**", "a2a", Group.A2A),
    Entry("/.well-known/agent-card.json", "a2a", Group.A2A),
    Entry("/.well-known/agent.json", "a2a", Group.A2A),
    Entry("/ui/**", group=Group.UI),
)
"""The first that covers a path is its entry."""

PUBLIC = frozenset(entry.path for entry in TABLE if entry.public)
PROBES = frozenset(entry.path for entry in TABLE if entry.probe)
RESERVED = PROBES | {entry.path for entry in TABLE if entry.reserved}
AT_THE_ROOT = frozenset(entry.path for entry in TABLE if entry.at_the_root)
TO_THE_END = frozenset(entry.path for entry in TABLE if entry.to_the_end)

_BY_FIRST = {
    first: tuple(entry for entry in TABLE if entry.first == first)
    for first in {entry.first for entry in TABLE}
}
_SYSTEM = frozenset({MODULES["system"]})


def entry_of(path: str) -> Entry | None:
    """The entry of a path below every prefix; None: there is no such route."""
    return _find(path.strip("/").split("/"))


def group_of(path: str) -> Group | None:
    """The group of a route, by its path. None: it cannot be switched off."""
    entry = entry_of(path)
    return entry.group if entry is not None else None


def modules_for(path: str) -> frozenset[str]:
    """The modules that hold the route of a path, if there is one."""
    parts = path.split("/")
    found: set[str] = set()
    # From any part on, as a proxy's prefix may come first. Too many modules cost time, and nothing else.
    for at, part in enumerate(parts):
        if part in _BY_FIRST and (entry := _find(parts[at:])) is not None and entry.resource != "system":
            found.add(MODULES[entry.resource])
            if entry.resource == "crons":
                found.add(MODULES["runs"])  # whose ids may be called anything
    return frozenset(found) or _SYSTEM


def _find(parts: Sequence[str]) -> Entry | None:
    return next((entry for entry in _BY_FIRST.get(parts[0], ()) if entry.covers(parts)), None)
