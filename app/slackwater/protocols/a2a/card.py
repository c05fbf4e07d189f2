"""The card of an agent: what it is called, where it is, and what it understands."""

from __future__ import annotations

from typing import Any

from slackwater import __version__
from slackwater.api.assistants.row import AssistantRow
from slackwater.protocols.a2a.models import ProtocolVersion

HISTORY_SCOPE = "LangGraph-A2A-History-Scope"
"""A header: `task` asks for what was said in a task, `context`, the default, for all that was said on its thread."""

_EXTENSION = {
    "uri": "https://langchain.com/a2a/extensions/history-scope/v1",
    "description": "Whether a task's history is that of the task or of its whole context",
    "required": False,
    "params": {
        "header": HISTORY_SCOPE,
        "values": ["context", "task"],
        "default": "context",
        "methods": ["SendMessage", "GetTask", "ListTasks"],
    },
}

# As 0.3 has it, and as 1.0 has it: each ignores what it does not know.
_SCHEMES: dict[str, dict[str, Any]] = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "apiKeySecurityScheme": {"location": "header", "name": "x-api-key"},
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "httpAuthSecurityScheme": {"scheme": "bearer"},
    },
}


def card_of(assistant: AssistantRow, url: str, *, speaks: bool, keys: bool, tokens: bool) -> dict[str, Any]:
    """The card of an assistant at `url`; `speaks`: its graph takes messages, `keys` and `tokens`: callers need one of these."""
    schemes = [name for name, accepted in {"apiKey": keys, "bearer": tokens}.items() if accepted]
    description = assistant.description or f"The assistant {assistant.name}."
    modes = ["text/plain", "application/json"] if speaks else ["application/json"]
    return {
        "name": assistant.name,
        "description": description,
        "version": __version__,
        # Of 0.3
        "url": url,
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
        # Of 1.0, the version that is preferred first
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": version.value}
            for version in (ProtocolVersion.V10, ProtocolVersion.V03)
        ],
        "capabilities": {
            "streaming": True,
            "pushNotifications": False,
            "stateTransitionHistory": False,
            "extensions": [_EXTENSION],
        },
        "defaultInputModes": modes,
        "defaultOutputModes": ["text/plain", "application/json"],
        "skills": [
            {
                "id": f"{assistant.assistant_id}-main",
                "name": assistant.name,
                "description": description,
                "tags": ["assistant", "langgraph"],
                "inputModes": modes,
                "outputModes": ["text/plain", "application/json"],
            }
        ],
        **(
            {
                "securitySchemes": {name: _SCHEMES[name] for name in schemes},
                "security": [{name: []} for name in schemes],
                "securityRequirements": [{"schemes": {name: {"list": []}}} for name in schemes],
            }
            if schemes
            else {}
        ),
    }
