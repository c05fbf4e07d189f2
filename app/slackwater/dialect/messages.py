"""Whether the messages of an input are some: found out before a run is admitted that could only fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slackwater.errors import BadRequest
from slackwater.kit.imports import run_in_import_thread
from slackwater.runtime.execution import engine

if TYPE_CHECKING:
    from collections.abc import Callable


class InvalidMessage(BadRequest):
    """A message of the input is none."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"Invalid message at input.messages[{position}]: {problem}")


async def check(input_: Any) -> None:
    """Raises InvalidMessage. What is no list of messages is left to the graph."""
    messages = input_.get("messages") if isinstance(input_, dict) else None
    if not isinstance(messages, list) or not messages:
        return
    convert = _converter() if engine.loaded() else await run_in_import_thread(_converter)
    for position, message in enumerate(messages):
        try:
            convert(message)
        except Exception as error:  # whatever it is: the graph would fail by it
            raise InvalidMessage(position, str(error).partition("\n")[0]) from None


def _converter() -> Callable[[Any], object]:
    """LangChain's own, by which graphs read messages."""
    from langchain_core.messages import convert_to_messages

    return lambda message: convert_to_messages([message])
