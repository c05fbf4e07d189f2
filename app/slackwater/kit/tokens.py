"""What a call of a model has cost, as LangChain's `usage_metadata` says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_MOST = 2**62


class Tokens(NamedTuple):
    """The tokens of one call."""

    input: int
    output: int
    total: int
    cached: int = 0
    reasoning: int = 0

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> Tokens:
        """Without what is no count."""
        given, made = _count(usage, "input_tokens"), _count(usage, "output_tokens")
        return cls(
            given,
            made,
            _count(usage, "total_tokens") or given + made,
            _count(usage.get("input_token_details"), "cache_read"),
            _count(usage.get("output_token_details"), "reasoning"),
        )


def model_of(answered: Mapping[str, Any], asked: object) -> str:
    """The model that has answered, as the answer's metadata says, or else the one that was asked; as a text column takes it."""
    return label(answered.get("model_name") or answered.get("model") or asked)


def label(value: object) -> str:
    """A name that a provider's package gives, as a text column takes it."""
    text = str(value) if value else "unknown"
    return text[:200].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _count(of: object, name: str) -> int:
    value = of.get(name) if isinstance(of, Mapping) else None
    return min(max(value, 0), _MOST) if isinstance(value, int) else 0
