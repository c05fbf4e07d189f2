"""The rules of suggestions: a model is asked, for so long, and whatever goes wrong there are none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import UUID

from slackwater.identity.principal import Principal
from slackwater.project.gateway import GatewaySpec, LlmModel
from slackwater.workspace.suggestions.models import SuggestionsWanted
from slackwater.workspace.suggestions.parser import conversation, suggestions_in
from slackwater.workspace.threads import owner_for
from slackwater.workspace.usage import service as usage

if TYPE_CHECKING:
    from slackwater.services import Services

log = logging.getLogger(__name__)

CALLER = "suggestions"
"""As whom their tokens are counted."""


async def suggest(
    services: Services, principal: Principal, thread_id: UUID, wanted: SuggestionsWanted
) -> list[str]:
    """What the user may ask next. The thread need not be there yet; raises NotFound if it is another's.

    There is nothing to suggest if suggestions are switched off, if nothing was said, if there is no such model, or if the
    model does not answer.
    """
    owner = await owner_for(services, principal, "create_run", thread_id, metadata={}, kwargs={})
    spec = services.graphs.gateway
    said = conversation(wanted.messages)
    model = model_of(spec, wanted.model_name)
    if not spec.suggestions.enabled or not said or model is None or services.chat_models is None:
        return []
    try:
        answer = await services.chat_models.ask(model, prompt(said, wanted.n))
    except Exception as error:  # of the provider's package: anything
        log.warning(
            "a model has not made suggestions",
            extra={"event": "suggestions.failed", "model": model.name, "error": type(error).__name__},
        )
        return []
    if answer is None:
        return []
    await usage.book(services.database, owner, thread_id, CALLER, model.model, answer)
    return suggestions_in(answer.content, wanted.n)


def model_of(spec: GatewaySpec, wanted: str | None) -> LlmModel | None:
    """The model that suggests: the configured one, or that of the conversation, or the first; None if there is none."""
    of_the_conversation = spec.model(wanted) if wanted is not None else next(iter(spec.models), None)
    if of_the_conversation is None or spec.suggestions.model is None:
        return of_the_conversation
    return spec.model(spec.suggestions.model)


def prompt(said: str, most: int) -> list[tuple[str, str]]:
    """What the model is asked."""
    rules = (
        f"Suggest up to {most} short questions or requests that the user could send next in this conversation. "
        "Write them as the user would, in the user's language, one line each, about what has just been said. "
        'Answer with a JSON array of strings and nothing else, such as ["…", "…"].'
    )
    return [("system", rules), ("human", f"The conversation:\n\n{said}")]
