"""What the code of nodes, to whom LangGraph hands the run's checkpointer, cannot do with it."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from slackwater.errors import ForeignThread


class Confined(BaseCheckpointSaver[str]):
    """A checkpointer of one thread, through which no other one is reached."""

    own_thread: str
    """Its id."""
    _confined = True

    def _check(self, config: RunnableConfig | None) -> None:
        """Raises ForeignThread for a thread that is not its own."""
        if not self._confined:
            return
        asked = None if config is None else config["configurable"].get("thread_id")
        if str(asked) != self.own_thread:
            raise ForeignThread(
                f"A node of a run on thread {self.own_thread} used the run's checkpointer for "
                f"{'all threads' if asked is None else f'thread {asked}'}. A run reads and writes the checkpoints of its own "
                "thread only. Call the inner graph without a thread_id in its config, compile it with a checkpointer of its own "
                "and leave the run's config out, or start a run on that thread through the API."
            )

    async def adelete_thread(self, thread_id: str) -> None:
        self._refuse_to("delete checkpoints")
        await super().adelete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._refuse_to("delete checkpoints")
        await super().adelete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._refuse_to("copy a thread")
        await super().acopy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._refuse_to("prune threads")
        await super().aprune(thread_ids, strategy=strategy)

    def _refuse_to(self, act: str) -> None:
        if self._confined:
            raise ForeignThread(f"A node cannot {act} through the run's checkpointer: use the API.")
