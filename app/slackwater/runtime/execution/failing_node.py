"""Which node an error comes from: LangGraph says so in a note on it, and in its traceback only."""

from __future__ import annotations

import re

_NOTE = re.compile(r"During task with name '(.*)' and id '([^']*)'", re.DOTALL)


def failing_node(error: BaseException) -> str | None:
    """`node`, or `outer|inner` for one of a graph inside a node; None if the error comes from none."""
    found = (_NOTE.fullmatch(note) for note in getattr(error, "__notes__", ()))
    # The innermost task is the first to note it; one that is tried again notes the same error again.
    tasks = list(dict.fromkeys((match[2], match[1]) for match in found if match is not None))
    names = [name for _, name in reversed(tasks)]
    named = getattr(error, "node", None)  # NodeCancelledError, NodeTimeoutError
    if isinstance(named, str) and named not in names[-1:]:
        names.append(named)
    if isinstance(error, BaseExceptionGroup):  # of graphs side by side in one node
        inner = (failing_node(each) for each in error.exceptions)
        names += [name for name in inner if name is not None][:1]
    return "|".join(names) or None
