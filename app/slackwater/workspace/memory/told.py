"""What a prompt says of a memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.workspace.memory.document import Document

TOKEN_CHARACTERS = 4
"""As many characters are one token, on average: whose model it is for is not known here."""

_NAMES: Mapping[tuple[str, str], str] = {
    ("user", "workContext"): "Work",
    ("user", "personalContext"): "Personal",
    ("user", "topOfMind"): "Current focus",
    ("history", "recentMonths"): "Recent months",
    ("history", "earlierContext"): "Earlier",
    ("history", "longTermBackground"): "Background",
}


def told(memory: Document, max_tokens: int) -> str:
    """The sections and the facts, those that are surest first, as far as there is room; empty if nothing is known."""
    lines = [
        f"{title}: {summary}"
        for (part, name), title in _NAMES.items()
        if (summary := " ".join(memory[part][name]["summary"].split()))
    ]
    facts = sorted(memory["facts"], key=lambda fact: -fact["confidence"])
    lines += [f"- [{fact['category']}] {' '.join(fact['content'].split())}" for fact in facts]
    left = max_tokens * TOKEN_CHARACTERS
    kept = []
    for line in lines:
        if (left := left - len(line) - 1) < 0:
            kept.append(line[:left])
            break
        kept.append(line)
    return "\n".join(filter(None, kept))
