"""What the routes of the memory answer."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.errors import ConfigurationUnusable, MemoryContended, MemoryTooLarge, NotFound
from slackwater.web.openapi.pieces import Operation, Response, Shape
from slackwater.workspace.memory.service import CONFIDENCE, CONTENT, FactChanged

TAG = "What is remembered of a user, and what models are told of it."


class MemorySection(Shape):
    """What is known of something, in a few sentences."""

    summary: str
    updatedAt: str


class MemoryOfUser(Shape):
    """What is known of the user."""

    workContext: MemorySection
    personalContext: MemorySection
    topOfMind: MemorySection


class MemoryOfHistory(Shape):
    """What is known of earlier times."""

    recentMonths: MemorySection
    earlierContext: MemorySection
    longTermBackground: MemorySection


class MemoryFact(Shape):
    """One thing that is known."""

    id: str
    content: str
    category: str
    confidence: float
    """0 to 1."""
    createdAt: str
    source: str
    """`manual`, or the id of a thread."""
    sourceError: str = ""
    """What was wrong before, if this corrects it."""


class MemoryDocument(Shape):
    """All that is remembered."""

    version: str
    lastUpdated: str
    user: MemoryOfUser
    history: MemoryOfHistory
    facts: list[MemoryFact]


class MemoryConfig(Shape):
    """`gateway.memory` of `langgraph.json`."""

    enabled: bool
    storage_path: str
    """Empty: there is no file."""
    debounce_seconds: int
    max_facts: int
    fact_confidence_threshold: float
    injection_enabled: bool
    max_injection_tokens: int


class MemoryStatus(Shape):
    """How the memory works, and all that is in it."""

    config: MemoryConfig
    data: MemoryDocument


_AT = "2026-11-28T01:00:00.000000Z"
_NOTHING = {"summary": "", "updatedAt": ""}
_FACT_ID = "fact_5f0c3a1e"
_DOCUMENT = {
    "version": "1.0",
    "lastUpdated": _AT,
    "user": {
        "workContext": {"summary": "Builds bridges.", "updatedAt": _AT},
        "personalContext": _NOTHING,
        "topOfMind": _NOTHING,
    },
    "history": {"recentMonths": _NOTHING, "earlierContext": _NOTHING, "longTermBackground": _NOTHING},
    "facts": [
        {
            "id": _FACT_ID,
            "content": "Prefers metric units",
            "category": "preference",
            "confidence": 0.9,
            "createdAt": _AT,
            "source": "manual",
        }
    ],
}
_CONFIG = {
    "enabled": True,
    "storage_path": "",
    "debounce_seconds": 30,
    "max_facts": 100,
    "fact_confidence_threshold": 0.7,
    "injection_enabled": True,
    "max_injection_tokens": 2000,
}
_MEMORY = {200: Response("All that is remembered.", MemoryDocument, _DOCUMENT)}
_CHANGE = (MemoryContended, MemoryTooLarge)
_UNKNOWN = NotFound("Memory fact 'fact_00000000' not found.")
_PARAMETERS = {"fact_id": {"description": "The id of a fact.", "example": _FACT_ID}}

OPERATIONS: Mapping[str, Operation] = {
    "GET /api/memory": Operation(id="get_memory", responses=_MEMORY),
    "DELETE /api/memory": Operation(id="clear_memory", responses=_MEMORY, errors=(MemoryContended,)),
    "POST /api/memory/reload": Operation(id="reload_memory", responses=_MEMORY),
    "GET /api/memory/export": Operation(id="export_memory", responses=_MEMORY),
    "POST /api/memory/import": Operation(
        id="import_memory", responses=_MEMORY, bodies={"an export": _DOCUMENT}, errors=_CHANGE
    ),
    "GET /api/memory/config": Operation(
        id="get_memory_config",
        responses={200: Response("How it works.", MemoryConfig, _CONFIG)},
        errors=(ConfigurationUnusable,),
        stored=False,
    ),
    "GET /api/memory/status": Operation(
        id="get_memory_status",
        responses={
            200: Response("Both.", MemoryStatus, {"config": _CONFIG, "data": _DOCUMENT}),
        },
        errors=(ConfigurationUnusable,),
    ),
    "POST /api/memory/facts": Operation(
        id="add_memory_fact",
        responses=_MEMORY,
        bodies={"a fact": {"content": "Prefers metric units", "category": "preference", "confidence": 0.9}},
        errors=(CONTENT, CONFIDENCE, *_CHANGE),
    ),
    "PATCH /api/memory/facts/{fact_id}": Operation(
        id="change_memory_fact",
        responses=_MEMORY,
        bodies={"surer": {"confidence": 1}},
        parameters=_PARAMETERS,
        errors=(CONTENT, CONFIDENCE, _UNKNOWN, FactChanged, *_CHANGE),
    ),
    "DELETE /api/memory/facts/{fact_id}": Operation(
        id="delete_memory_fact",
        responses=_MEMORY,
        parameters=_PARAMETERS,
        errors=(_UNKNOWN, MemoryContended),
    ),
}
