"""The state machine: what may happen, and what has to hold whatever has happened."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from slackwater.api.runs import queries
from slackwater.errors import Conflict, LeaseLost, NotFound
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Row
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.process import takeover
from slackwater.runtime.queue import pruning
from slackwater.runtime.queue.admission import NewRun
from slackwater.runtime.queue.batch import Batch
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.runtime.queue.states import StopWish
from slackwater.runtime.runtime import Runtime
from tests.model.gates import Do, gates
from tests.model.world import Held, Lose, World, thread_ids
from tests.support.machines import try_out

OWNERS = ("alice", "bob")
ASSISTANT = UUID("00000000-0000-4000-8000-000000000001")
ACTIVE = ("pending", "running")

ANY = st.integers(0, 11)
"""One of whatever there is."""
SELDOM = st.sampled_from([False, False, True])
THREAD = st.sampled_from([0, 0, 0, 1])
"""Most of it happens on one: what does not meet cannot disturb each other."""


SOMETIMES = (
    *("drain", "renew", "database_goes", "expire", "cancel", "delete", "hold", "fail_over"),
    *("take_up_lost_claims", "replicate", "claim"),
)


class Runs(RuleBasedStateMachine):
    """Threads, runs and processes."""

    world: ClassVar[World]
    threads: ClassVar[list[UUID]] = thread_ids(2)
    found: ClassVar[list[AssertionError]] = []
    only: ClassVar[Mapping[str, int] | None] = None
    """Of SOMETIMES what happens in every example, and nothing else; None for some of it, others in each.

    How often each, also of what may always happen."""

    def __init__(self) -> None:
        super().__init__()
        self.holds: list[tuple[Any, UUID]] = []
        self.log: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        """Everything that was ever said under an id: a failover does not unsay it."""
        self.ended: dict[UUID, str] = {}
        self.fences: dict[UUID, int] = {}
        self.rolling: dict[UUID, UUID] = {}
        """Runs that somebody wants rolled back, and their threads."""
        self.rest: dict[UUID, Any] = {}
        """Head and pending writes of a thread while nobody worked on it."""
        self.changed: set[UUID] = set()
        """Threads whose last run was taken away: what they show is read from the checkpoint alone."""
        self.story: list[str] = []
        self.left_out: set[str] = set()
        self.seen: set[Attempt] = set()
        self.left: set[tuple[UUID, int]] = set()
        """Claims that their processes have left to their leases."""
        self.active = False
        """Some run has not ended."""
        self.known: dict[UUID, str] | None = None
        """What had ended when the standby was last heard of."""

    def teardown(self) -> None:
        for hold, _ in self.holds:
            self.world.attempt(hold.__aexit__(None, None, None), LeaseLost)
        self.world.reset()

    # Who and what

    def process(self, n: int) -> Runtime:
        return self.world.processes[n % len(self.world.processes)]

    def here(self, n: int) -> Runtime | None:
        """A process that has a connection to the database."""
        there = [runtime for runtime in self.world.processes if not self.world.of(runtime).away]
        return there[n % len(there)] if there else None

    def thread(self, n: int) -> tuple[UUID, str]:
        n %= len(self.threads)
        return self.threads[n], OWNERS[n % len(OWNERS)]

    @property
    def attempts(self) -> list[Attempt]:
        return [attempt for runtime in self.world.processes for attempt in runtime.worker.attempts]

    @property
    def held(self) -> list[Held]:
        return [held for runtime in self.world.processes for held in self.world.of(runtime).held]

    def lose_answer_to(self, run_id: str, lose: Lose) -> None:
        """The next thing that the process of this run writes is carried out, and never answered."""
        for runtime in self.world.processes:
            if any(str(attempt.run.run_id) == run_id for attempt in runtime.worker.attempts):
                self.world.of(runtime).losing = lose

    # What may happen

    @initialize(left_out=st.sets(st.sampled_from(SOMETIMES), max_size=len(SOMETIMES) - 1))
    def some_of_it(self, left_out: set[str]) -> None:
        """What never happens in this example: the less there is of it, the more often the rest meets."""
        self.left_out = left_out if self.only is None else set(SOMETIMES) - set(self.only)
        self.story.append(f"never: {', '.join(sorted(self.left_out))}")

    @rule(
        choice=st.integers(0, 10_000),
        p=ANY,
        t=THREAD,
        i=ANY,
        what=st.sampled_from([Do.END, Do.GO_ON, Do.END, Do.ASK, Do.FAIL]),
        strategy=st.sampled_from(["enqueue", "enqueue", "enqueue", "reject", "interrupt", "rollback"]),
        action=st.sampled_from(list(CancelAction)),
        mostly=st.sampled_from([True, True, False]),
        stubborn=SELDOM,
        lose=st.sampled_from([Lose.NOTHING, Lose.SETTLEMENT, Lose.NOTHING, Lose.SETTLEMENT, Lose.WRITE]),
    )
    def happens(self, choice: int, **details: Any) -> None:
        """One of what is possible now. Not rules with preconditions: those must not depend on what is out of our hands."""
        possible = [act for act, weight in self.possible().items() for _ in range(weight)]
        act = possible[choice % len(possible)]
        asked = inspect.signature(act).parameters
        given = {name: detail for name, detail in details.items() if name in asked}
        self.story.append(
            f"{act.__name__}({', '.join(f'{name}={detail!r}' for name, detail in given.items())})"
        )
        with self._telling():
            act(**given)

    def possible(self) -> dict[Callable[..., None], int]:
        """What may happen now, and how often each."""
        databases = [self.world.of(runtime) for runtime in self.world.processes]
        some = self.active or bool(self.ended)
        weights: list[tuple[Callable[..., None], object, int]] = [
            (self.admit, True, 4),
            (self.claim, self.active, 4),
            (self.step, gates.waiting, 7),
            (self.drain, self.attempts, 3),
            (self.answer_is_lost, self.held, 3),
            (self.renew, self.attempts, 2),
            (self.take_up_lost_claims, any(r.worker.lost_claims.suspected for r in self.world.processes), 2),
            (self.database_goes, self.attempts and not any(d.away for d in databases), 1),
            (self.database_comes_back, any(database.away for database in databases), 3),
            (self.expire, self.active, 3),
            (self.cancel, self.active, 1),
            (self.delete, some, 1),
            (self.hold, not self.holds, 1),
            (self.release, self.holds, 2),
            (self.replicate, some, 2),
            (self.fail_over, self.known is not None, 2),
        ]
        often = self.only or {}
        return {
            act: often.get(act.__name__, weight)
            for act, condition, weight in weights
            if condition and act.__name__ not in self.left_out
        }

    def admit(self, p: int, t: int, strategy: str, mostly: bool, stubborn: bool, lose: Lose) -> None:
        """Somebody starts a run, which begins at once if the thread is free and this process claims runs."""
        runtime, (thread_id, owner) = self.here(p), self.thread(t)
        if runtime is None:
            return
        new = NewRun(
            run_id=uuid7(),
            thread_id=thread_id,
            owner=owner,
            assistant_id=ASSISTANT,
            graph_id="walk",
            kwargs={
                "input": {"log": [gates.mark()], "over": False},
                "config": {"configurable": {}},
                "stream_mode": ["values"],
            },
            metadata={},
            assistant_metadata={},
            assistant_configurable={},
            multitask_strategy=strategy,
            create_thread=True,
        )
        gates.stubborn, runtime.worker._claiming = stubborn, mostly
        self.world.of(runtime).losing = lose
        self.world.attempt(runtime.admit(new), Conflict)
        runtime.worker._claiming = True

    def claim(self, p: int, stubborn: bool, lose: Lose) -> None:
        runtime = self.here(p)
        if runtime is not None and runtime.worker.room:
            gates.stubborn = stubborn
            self.world.of(runtime).losing = lose
            self.world.attempt(runtime.worker._take(4))

    def step(self, i: int, what: Do, lose: Lose) -> None:
        """A node comes to its end, and with it perhaps the run."""
        gate = gates.waiting[i % len(gates.waiting)]
        self.lose_answer_to(gate.run_id, lose)
        gate.open(what)
        self.world.quiet()

    def drain(self, i: int, mostly: bool, lose: Lose) -> None:
        attempt = self.attempts[i % len(self.attempts)]
        run_id = str(attempt.run.run_id)
        self.lose_answer_to(run_id, lose)
        if not mostly:
            attempt.stop(StopWish.DRAIN)
        else:
            attempt.ask_to_drain("the model")
            for gate in [gate for gate in gates.waiting if gate.run_id == run_id]:
                gate.open(Do.GO_ON)
        self.world.quiet()

    def answer_is_lost(self, i: int) -> None:
        """Whoever has waited for it hears that its connection has ended, and sends again."""
        self.held[i % len(self.held)].set()
        self.world.quiet(Conflict, LeaseLost)

    def renew(self, i: int) -> None:
        busy = [runtime for runtime in self.world.processes if runtime.worker.attempts]
        runtime = busy[i % len(busy)]
        if not self.world.of(runtime).away:
            self.world.run(runtime.worker.renew_now())
            self.world.quiet()
            self.live_is_what_is_ours(runtime)

    def take_up_lost_claims(self) -> None:
        for runtime in self.world.processes:
            if not self.world.of(runtime).away:
                self.world.attempt(runtime.worker.take_up_lost())

    def database_goes(self, p: int) -> None:
        """For one of the processes."""
        self.world.of(self.process(p)).away = True
        self.world.quiet(Conflict, LeaseLost)

    def database_comes_back(self) -> None:
        for runtime in self.world.processes:
            self.world.of(runtime).away = False
        self.world.quiet(Conflict, LeaseLost)

    def expire(self, p: int, mostly: bool) -> None:
        """Leases end, and somebody looks for such runs."""
        self.world.fetch(
            "update slackwater.runs set lease_until = clock_timestamp() - interval '1 second' "
            "where status = 'running' returning 1"
        )
        if mostly and (runtime := self.here(p)) is not None:
            self.world.attempt(takeover.take_over_all(runtime, Batch(10, 10)))

    def cancel(self, p: int, t: int, action: CancelAction) -> None:
        runtime, (thread_id, owner) = self.here(p), self.thread(t)
        if runtime is not None:
            self.world.attempt(runtime.cancel(owner, thread_id, None, action), Conflict)

    def delete(self, p: int, t: int, i: int, mostly: bool) -> None:
        """One run, or the thread."""
        runtime, (thread_id, owner) = self.here(p), self.thread(t)
        rows = self.world.fetch(
            "select run_id from slackwater.runs where thread_id = %s and kind = 'run' order by seq",
            thread_id,
        )
        if runtime is None or not rows:
            return
        run_id = rows[i % len(rows)]["run_id"]

        async def delete() -> None:
            if not mostly:
                await pruning.delete(runtime.database, owner, [thread_id])
                return
            deleted = await queries.delete(runtime.database, owner, thread_id, run_id)
            if deleted.live:  # its owner ends it, or whoever takes it over
                runtime.forget(run_id)
                await runtime.ended(run_id, 0.001)
                await queries.delete(runtime.database, owner, thread_id, run_id)
            await runtime.refresh_thread(thread_id)

        self.changed.add(thread_id)
        self.rest.pop(thread_id, None)
        self.world.attempt(delete())

    def hold(self, p: int, t: int, lose: Lose) -> None:
        """A state update begins."""
        runtime, (thread_id, owner) = self.here(p), self.thread(t)
        if runtime is None:
            return
        hold = runtime.hold(thread_id, owner=owner, graph_id="walk", assistant_id=ASSISTANT)

        async def enter() -> None:
            await hold.__aenter__()
            self.holds.append((hold, thread_id))

        self.world.of(runtime).losing = lose
        self.world.attempt(enter(), Conflict, NotFound)

    def release(self) -> None:
        hold, _ = self.holds.pop()
        self.world.attempt(hold.__aexit__(None, None, None))

    def replicate(self) -> None:
        """The standby hears of everything until now."""
        self.world.remember()
        self.known = dict(self.ended)

    def fail_over(self) -> None:
        """It is promoted."""
        self.world.fail_over()
        self.ended = dict(self.known or {})
        self.fences.clear()
        self.rolling.clear()
        self.rest.clear()
        self.changed.update(self.threads)
        for runtime in self.world.processes:
            self.left.update(runtime.worker.lost_claims.begun)  # the end of some is forgotten
        self.world.quiet(Conflict, LeaseLost)

    # What has to hold

    @invariant()
    def everything_holds(self) -> None:
        """The rows as they are now."""
        with self._telling():
            self.look()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            self.found.append(error)
            error.add_note("What has happened:\n  " + "\n  ".join(self.story))
            raise

    def look(self) -> None:
        found, runs, events, checkpoints, writes = self.world.look()
        threads = {row["thread_id"]: row for row in found}
        self.active = any(run["status"] in ACTIVE for run in runs)
        self.one_at_a_time(runs)
        self.ends_are_final(runs)
        self.ids_are_used_once(threads, events)
        self.rollbacks_restore(runs, checkpoints, writes)
        for thread_id, thread in threads.items():
            of_thread = [run for run in runs if run["thread_id"] == thread_id]
            self.the_thread_shows_its_last_end(thread, of_thread)
        for attempt in self.seen - set(self.attempts):
            if attempt.settled is None and attempt.task is not None and attempt.task.done():
                self.left.add((attempt.run.run_id, attempt.run.fence))
        self.seen = set(self.attempts)
        for runtime in self.world.processes:
            self.nothing_of_ours_is_forgotten(runtime, runs)

    def one_at_a_time(self, runs: list[Row]) -> None:
        for thread_id in self.threads:
            active = [run for run in runs if run["thread_id"] == thread_id and run["status"] in ACTIVE]
            running = [run for run in active if run["status"] == "running"]
            assert len(running) <= 1, ("two run on one thread", running)
            holders = [run for run in runs if run["thread_id"] == thread_id and run["holds_thread"]]
            assert len(holders) <= 1, ("two hold one thread", holders)
            assert all(run in active for run in holders), ("held by what has ended", holders)
            ready = [run for run in runs if run["thread_id"] == thread_id and run["ready"]]
            waits = bool(active) and not running
            assert len(ready) == int(waits), (
                "something waits and nobody runs, or the other way round",
                active,
            )

    def ends_are_final(self, runs: list[Row]) -> None:
        for run in runs:
            before = self.ended.get(run["run_id"])
            assert before in (None, run["status"]), ("an end has changed", before, run)
        # Of those that are there: an admission that hears late that its answer was lost may make a deleted one anew.
        self.ended = {run["run_id"]: run["status"] for run in runs if run["status"] not in ACTIVE}

    def ids_are_used_once(self, threads: dict[UUID, Row], events: list[Row]) -> None:
        for event in events:
            thread = threads.get(event["thread_id"])
            assert thread is not None, ("an event of no thread", event)
            key = (event["thread_id"], thread["created_at"], event["fence"], event["seq"])
            said = (event["run_id"], event["event"], event["data"])
            if key not in self.log:
                fence = self.fences.get(event["thread_id"], 0)
                assert event["fence"] >= fence, ("said after the next claim", event, fence)
            assert self.log.setdefault(key, said) == said, ("one id, two contents", key, self.log[key], said)
        self.fences = {thread_id: thread["fence"] for thread_id, thread in threads.items()}

    def rollbacks_restore(self, runs: list[Row], checkpoints: list[Row], writes: list[Row]) -> None:
        there = {str(run["run_id"]): run for run in runs}
        strays = [checkpoint for checkpoint in checkpoints if checkpoint["run_id"] not in there]
        assert not strays, ("checkpoints of runs that are gone", strays)
        for thread_id in self.threads:
            of_thread = [run for run in runs if run["thread_id"] == thread_id]
            if any(run["holds_thread"] for run in of_thread):
                continue
            head = max(
                (c["checkpoint_id"] for c in checkpoints if c["thread_id"] == str(thread_id)), default=None
            )
            rest = (head, [tuple(w.values()) for w in writes if w["checkpoint_id"] == head])
            undone = [
                run_id for run_id, of in self.rolling.items() if of == thread_id and str(run_id) not in there
            ]
            # Nothing has begun on it since it rested last, but what was undone.
            begun = {run["run_id"] for run in of_thread if run["fence"]}
            if undone and thread_id in self.rest and self.rest[thread_id][1] == begun:
                assert rest == self.rest[thread_id][0], (
                    "a rollback has not restored",
                    rest,
                    self.rest[thread_id],
                )
            self.rest[thread_id] = (rest, begun)
        self.rolling = {
            run["run_id"]: run["thread_id"]
            for run in runs
            if run["cancel_action"] == "rollback" and run["status"] in ACTIVE
        }

    def the_thread_shows_its_last_end(self, thread: Row, runs: list[Row]) -> None:
        if thread["status"] == "busy" or any(run["status"] in ACTIVE for run in runs):
            return
        if any(self.world.of(runtime).held for runtime in self.world.processes) or self.world.pending:
            return  # somebody has still to read it
        if any(self.world.of(runtime).away for runtime in self.world.processes):
            return
        head = self.world.head(thread["thread_id"])
        log = head.checkpoint["channel_values"].get("log", []) if head else None
        shown = (thread["values"] or {}).get("log", []) if thread["values"] is not None or head else None
        assert shown == log, ("the thread shows what is not its state", thread, log)
        started = [run for run in runs if run["fence"]]
        if not started or thread["thread_id"] in self.changed:
            return
        last = max(started, key=lambda run: run["fence"])
        if any(run["ended_at"] > last["ended_at"] for run in runs if run["ended_at"]):
            return
        asks = (
            any(channel == "__interrupt__" for _, channel, _ in (head.pending_writes or ()))
            if head
            else False
        )
        expected = {"success": "interrupted" if asks else "idle", "error": "error"}.get(last["status"])
        assert expected in (None, thread["status"]), ("the thread shows another run's end", thread, last)

    def nothing_of_ours_is_forgotten(self, runtime: Runtime, runs: list[Row]) -> None:
        """What the rows say is worked on here is: but for an answer that is on its way, or is known to be lost."""
        worker, ours = runtime.worker, self._ours(runtime, runs)
        if worker.lost_claims.in_flight or worker.lost_claims.suspected:
            ours &= worker.lost_claims.begun.keys()
        live = {(a.run.run_id, a.run.fence) for a in worker.live.values()}
        assert ours <= live | self.left, ("forgotten", ours - live)

    def live_is_what_is_ours(self, runtime: Runtime) -> None:
        """After a renewal: nothing is worked on that is not."""
        runs = self.world.fetch("select *, lease_until < clock_timestamp() as expired from slackwater.runs")
        live = {
            (attempt.run.run_id, attempt.run.fence)
            for attempt in runtime.worker.attempts
            if attempt.outcome is None and not attempt.lease.lost
        }
        assert live <= self._ours(runtime, runs), ("worked on, and not ours", live)

    def _ours(self, runtime: Runtime, runs: list[Row]) -> set[tuple[UUID, int]]:
        return {
            (run["run_id"], run["fence"])
            for run in runs
            if run["worker"] == runtime.worker_id
            and run["status"] == "running"
            and run["kind"] == "run"
            and not run["expired"]
        }


def check(
    world: World,
    *,
    examples: int,
    steps: int = 25,
    seed: int = 0,
    shrink: bool = False,
    only: Mapping[str, int] | None = None,
) -> None:
    """Try so many examples, the same ones each time for one seed; of SOMETIMES `only` these, so often. Raises what does not hold."""
    Runs.world, Runs.found, Runs.only = world, [], only
    try_out(Runs, examples=examples, steps=steps, seed=seed, shrink=shrink)
