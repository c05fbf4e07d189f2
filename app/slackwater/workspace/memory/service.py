"""The rules of the memory: whose it is, and what may be written into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from slackwater.errors import BadRequest, Conflict, NotFound
from slackwater.identity.principal import Principal
from slackwater.workspace import as_items
from slackwater.workspace.memory import document, edit, queries
from slackwater.workspace.memory.document import Document, Edit, FactHasChanged, NoSuchFact
from slackwater.workspace.memory.models import FactChange, FactCreate, MemoryGiven

if TYPE_CHECKING:
    from slackwater.services import Services

CONFIDENCE = BadRequest("Invalid confidence value; must be between 0 and 1.")
CONTENT = BadRequest("Memory fact content cannot be empty.")


class FactChanged(Conflict):
    """The fact has been changed meanwhile, by another request: read it again, and repeat yours."""


async def get(services: Services, principal: Principal) -> Document:
    """All that is remembered. Raises RefusedByAuth."""
    await as_items.require(services, principal, "get", "memory", queries.KEY)
    return document.read((await queries.read(services.database, principal.owner)).value)


async def clear(services: Services, principal: Principal) -> Document:
    """Forget all of it. Raises RefusedByAuth and MemoryContended."""
    return await _change(services, principal, document.replace(document.empty()), "delete")


async def import_(services: Services, principal: Principal, body: MemoryGiven) -> Document:
    """Remember an export instead of what there is. Raises RefusedByAuth, MemoryContended and MemoryTooLarge."""
    return await _change(services, principal, document.replace(body.document()))


async def add_fact(services: Services, principal: Principal, body: FactCreate) -> Document:
    """Remember one thing more. Raises as `change_fact`, but for NotFound."""
    content = checked_content(body.content)
    confidence = checked_confidence(body.confidence)
    return await _change(
        services, principal, document.add(content, body.category, confidence, document.MANUAL)
    )


async def change_fact(services: Services, principal: Principal, fact_id: str, body: FactChange) -> Document:
    """Change what is said of one thing.

    Raises BadRequest, NotFound, FactChanged if another has been first, RefusedByAuth, MemoryContended and MemoryTooLarge.
    """
    changed: dict[str, Any] = {}
    if body.content is not None:
        changed["content"] = checked_content(body.content)
    if body.category is not None:
        changed["category"] = body.category.strip() or "context"
    if body.confidence is not None:
        changed["confidence"] = checked_confidence(body.confidence)
    return await _change(services, principal, document.change(fact_id, changed))


async def delete_fact(services: Services, principal: Principal, fact_id: str) -> Document:
    """Forget one thing. Raises NotFound, RefusedByAuth and MemoryContended."""
    return await _change(services, principal, document.remove(fact_id), "delete")


def config(services: Services) -> dict[str, Any]:
    """How the project's memory works."""
    spec = services.graphs.gateway.memory
    return {
        "enabled": spec.enabled,
        # There is no file: every process sees the same store.
        "storage_path": "",
        "debounce_seconds": spec.debounce_seconds,
        "max_facts": spec.max_facts,
        "fact_confidence_threshold": spec.fact_confidence_threshold,
        "injection_enabled": spec.injection_enabled,
        "max_injection_tokens": spec.max_injection_tokens,
    }


def checked_content(content: str) -> str:
    """Raises BadRequest."""
    if not (stripped := content.strip()):
        raise CONTENT
    return stripped


def checked_confidence(confidence: float) -> float:
    """Raises BadRequest."""
    if not document.is_confidence(confidence):
        raise CONFIDENCE
    return confidence


async def _change(
    services: Services, principal: Principal, change: Edit, action: Literal["put", "delete"] = "put"
) -> Document:
    await as_items.require(services, principal, action, "memory", queries.KEY)
    try:
        changed, _ = await edit.apply(services.database, principal.owner, change)
    except NoSuchFact as error:
        raise NotFound(f"Memory fact {str(error)!r} not found.") from None
    except FactHasChanged:
        raise FactChanged from None
    return changed
