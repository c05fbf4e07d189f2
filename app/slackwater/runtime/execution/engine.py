"""The modules that drive LangGraph, imported when the first run is about to begin: the import takes longer than the rest of a start.

`await engine.load()`, then use `engine.RunSaver` and the other names of `slackwater.runtime.execution.loaded`. Never
`from slackwater.runtime.execution.engine import …`: that would import it at once.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from slackwater.kit.imports import run_in_import_thread

if TYPE_CHECKING:
    from slackwater.runtime.execution.loaded import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_import(), name)


_MODULE = "slackwater.runtime.execution.loaded"
_loaded = False


def loaded() -> bool:
    """Whether a run can begin without waiting for the import."""
    return _loaded


async def load() -> None:
    """Import them once, in a thread. Concurrent calls wait for the same import."""
    if not _loaded:
        await run_in_import_thread(_import)


def _import() -> Any:
    global _loaded
    if not _loaded:
        gc.disable()  # it would traverse everything that is being imported again and again, and find nothing
        try:
            import_module(_MODULE)
        finally:
            gc.enable()
        _loaded = True
    return sys.modules[_MODULE]
