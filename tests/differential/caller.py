"""One of several users of a server, who call it in the same scenario."""

from __future__ import annotations

from typing import Any

from tests.differential.script import Answer, Event, Script, Verbs


class Caller(Verbs):
    """Calls as `name`, whom `auth.py` of the project `guarded` knows by its token."""

    def __init__(self, script: Script, name: str) -> None:
        self._script = script
        self.name = name
        self.scenario = script.tag.replace(".", "_")
        """A word that may be a label of the store's."""
        self.identity = f"{name}-{self.scenario}"
        self.headers = {"authorization": f"Bearer {name}.{self.scenario}"}

    async def call(self, method: str, path: str, body: Any = ..., **options: Any) -> Answer:
        label = options.pop("label", None) or f"{method} {path.partition('?')[0]}"
        label = f"{self.name} {label}"
        return await self._script.call(method, path, body, label=label, **self._options(options))

    async def ask(self, method: str, path: str, body: Any = ..., **options: Any) -> Answer:
        """Not written down."""
        return await self._script.ask(method, path, body, **self._options(options))

    async def head(self, method: str, path: str, body: Any = ..., **options: Any) -> list[Event]:
        return await self._script.head(method, path, body, **self._options(options))

    async def thread(self, **metadata: Any) -> str:
        """The path of a new thread of the scenario."""
        metadata = {"scenario": self.scenario, **metadata}
        made = await self.ask("POST", "/threads", {"metadata": metadata})
        return f"/threads/{made['thread_id']}"

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "headers": {**self.headers, **(options.get("headers") or {})}}


def callers(script: Script, *names: str) -> list[Caller]:
    return [Caller(script, name) for name in names]


async def told(script: Script, label: str) -> None:
    """Write down what the handlers were told since the last time, by what it was about; how often is not compared."""
    answer = await script.ask("GET", f"/told/{script.tag.replace('.', '_')}")
    about: dict[str, list[Any]] = {}
    for entry in answer.body:
        action = f"{entry.pop('resource')} {entry.pop('action')}"
        if action == "threads read":
            # The edition with Postgres names the run, too. Which thread is what matters.
            thread = entry["value"]["thread_id"]
            entry["value"] = thread["UUID"] if isinstance(thread, dict) else thread
        if action == "assistants create":
            entry["value"].pop("if_exists", None)  # so does that edition
        entries = about.setdefault(action, [])
        if entry not in entries:
            entries.append(entry)
    script.note(f"told of {label}", about)
