"""Slow imports: when they happen, and where.

They run one at a time in a thread of their own, so that the event loop is not blocked.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

# A single thread: with two, circular imports can hand out modules that are only half initialised.
_thread = ThreadPoolExecutor(1, thread_name_prefix="import")


def imports_are_lazy() -> bool:
    """Whether slow imports wait until something needs them, because a caller is waiting for this start.

    True on AWS Lambda, except in environments that are initialised long before their first invocation.
    """
    return (
        "AWS_LAMBDA_RUNTIME_API" in os.environ
        and os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") == "on-demand"
    )


async def run_in_import_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns. It continues if the caller is cancelled: an import cannot be interrupted."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)


def after_import(name: str, then: Callable[[ModuleType], None]) -> None:
    """Call `then` with the module `name` as soon as somebody has imported it; now, if somebody has. Imports nothing."""
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Watch(name, then))


class _Watch(MetaPathFinder):
    """Finds one module as ever, and tells of its import."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                sys.meta_path.remove(self)
                self._then(module)

            loader.exec_module = exec_module
        return spec
