"""Which models may be asked for."""

from __future__ import annotations

from slackwater.errors import BadRequest
from slackwater.graphs.registry import Graphs


class UnknownModel(BadRequest):
    """That model is not in the configured model allowlist."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Model '{name}' is not in the configured model allowlist")


def require_model(graphs: Graphs, name: object) -> None:
    """Raises UnknownModel, if the project says which models there are, and ConfigurationUnusable."""
    if name is None or not graphs.gateway.models:
        return
    text = name if isinstance(name, str) else str(name)
    if graphs.model(text) is None:
        raise UnknownModel(text)
