"""The store: LangGraph's own over the shared pool, behind the gate, and what each owner sees of it."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, LiteralString, cast

from langchain_core.embeddings import Embeddings
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    ensure_embeddings,
)
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.postgres.base import PostgresIndexConfig
from psycopg import AsyncCursor
from psycopg.errors import DivisionByZero, PipelineAborted
from psycopg.rows import DictRow

from slackwater.errors import GraphImportError, RunOver
from slackwater.kit.labels import label_of
from slackwater.postgres.pool import Database, read_page
from slackwater.postgres.retry import retrying
from slackwater.project.store import IndexSpec, StoreSpec
from slackwater.runtime.execution.owning_loop import OwningLoop, from_any_loop
from slackwater.runtime.fenced import epochs
from slackwater.runtime.fenced.epochs import Standing
from slackwater.runtime.fenced.statements import ITEM_IS_AS_PUT, REQUIRE_OWNED
from slackwater.runtime.queue.lease import Acknowledged, Lease

_OPERATORS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

_lease: ContextVar[Lease | None] = ContextVar("lease", default=None)
"""What the operation that is carried out has to prove."""

_vectors: ContextVar[Mapping[str, list[float]]] = ContextVar("vectors")

_bounded: ContextVar[bool] = ContextVar("bounded", default=False)
"""Whether what a search finds is read row by row, as far as a page may be."""


def open_store(database: Database, spec: StoreSpec, embed: Any) -> GatedStore:
    """The store of all owners; `embed` makes the vectors of `spec.index`. Raises GraphImportError if it cannot."""
    return GatedStore(database, spec, _index_config(spec.index, embed) if spec.index else None)


class GatedStore(AsyncPostgresStore):
    """`AsyncPostgresStore` whose every operation the gate counts, and whose batch task has an end.

    `abatch` works in any event loop, `batch` in any thread but the loop's own.
    What has expired is gone at once, whenever it is swept.
    """

    def __init__(self, database: Database, spec: StoreSpec, index: PostgresIndexConfig | None) -> None:
        ttl: TTLConfig = {"refresh_on_read": spec.refresh_on_read, "omit_expired": True}
        if spec.default_ttl is not None:
            ttl["default_ttl"] = spec.default_ttl
        super().__init__(cast("Any", database.pool), index=index, ttl=ttl)
        self.owning_loop = OwningLoop()
        self._database = database
        self._gate = database.gate
        self._patience_seconds = database.statement_seconds
        self._model = self.embeddings
        if self._model is not None:
            self.embeddings = _Prepared()

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        pipeline = pipeline and not _bounded.get()  # where rows do not come one by one
        async with self._gate.operation(), super()._cursor(pipeline=pipeline) as cursor:
            if (lease := _lease.get()) is not None:
                await cursor.execute(REQUIRE_OWNED, lease.key)
            yield cursor

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return self.owning_loop.call(lambda: self.abatch(ops))

    @from_any_loop
    async def abatch_under(self, lease: Lease, ops: Iterable[Op]) -> list[Result]:
        """`abatch` for a node of the run that has this lease. Raises RunOver once it is gone, and writes nothing then."""
        if lease.gone:
            raise RunOver
        given = list(ops)
        puts = [op for op in given if isinstance(op, PutOp)]
        if not puts:
            return await self.abatch(given)
        try:
            results = await self._fenced(lease, given)
        except RunOver:
            if await self._standing(lease) is not Standing.WHOLE:
                raise
            results = await self._fenced(lease, given)  # there was a failover
        lease.acknowledged["store"] = _newest(puts[-1])
        return results

    async def _fenced(self, lease: Lease, ops: list[Op]) -> list[Result]:
        before = _lease.set(lease)
        try:
            return await self.abatch(ops)
        except (DivisionByZero, PipelineAborted):
            raise RunOver from None
        finally:
            _lease.reset(before)

    async def _standing(self, lease: Lease) -> Standing:
        until = time.monotonic() + self._patience_seconds
        return await retrying(lambda: epochs.look(self._database, lease), until=until)

    @from_any_loop
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        given = list(ops)
        texts = self._texts(given)
        if not texts or self._model is None:
            return await self._carried_out(given)
        # Before a connection is taken: a provider may need seconds, and the pool is small.
        made = await self._model.aembed_documents(texts)
        before = _vectors.set(dict(zip(texts, made, strict=True)))
        try:
            return await self._carried_out(given)
        finally:
            _vectors.reset(before)

    async def _carried_out(self, given: list[Op]) -> list[Result]:
        """What was asked for; tried again while the database is away, which is no fault of the node that asks.

        An operation that was carried out and whose answer was lost is one that may be carried out again.
        """
        until = time.monotonic() + self._patience_seconds
        return await retrying(lambda: super(GatedStore, self).abatch(given), until=until)

    async def _batch_search_ops(
        self, search_ops: Sequence[tuple[int, SearchOp]], results: list[Result], cur: Any
    ) -> None:
        if not _bounded.get():
            await super()._batch_search_ops(search_ops, results, cur)
            return
        for number, op in search_ops:
            found: list[Result] = [None]
            await super()._batch_search_ops([(0, op)], found, _Page(cur, op.limit))  # type: ignore[arg-type]
            results[number] = found[0]

    def _texts(self, ops: list[Op]) -> list[str]:
        """What has to become vectors."""
        if not self.index_config:
            return []
        puts = [(number, op) for number, op in enumerate(ops) if isinstance(op, PutOp)]
        wanted = self._prepare_batch_PUT_queries(puts)[1] if puts else None
        queries = [op.query for op in ops if isinstance(op, SearchOp) and op.query]
        return list(dict.fromkeys([*(text for *_, text in (wanted[1] if wanted else ())), *queries]))

    def _get_filter_condition(self, key: str, op: str, value: Any) -> tuple[str, list[Any]]:
        if op == "$ne":  # also what has no such key
            condition, params = super()._get_filter_condition(key, "$eq", value)
            return f"({condition}) is not true", params
        if op not in _OPERATORS:
            return super()._get_filter_condition(key, op, value)
        # LangGraph compares strings, so that 10 comes before 9.
        if isinstance(value, str):
            kind, compared = "string", f'(value->>%s) collate "C" {_OPERATORS[op]} %s'
        elif isinstance(value, int | float) and not isinstance(value, bool):
            kind, compared = "number", f"(value->>%s)::numeric {_OPERATORS[op]} %s::numeric"
        else:
            raise ValueError(f"Operator {op} needs a number or a string")
        return f"case when jsonb_typeof(value->%s) = '{kind}' then {compared} else false end", [
            key,
            key,
            str(value),
        ]

    async def stop(self, timeout: float) -> None:
        """End the batch task, within `timeout` seconds."""
        task: asyncio.Task[Any] | None = getattr(self, "_task", None)
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=timeout)


class _Page:
    """A cursor for one search, whose rows are read as those of a page are."""

    def __init__(self, cursor: AsyncCursor[DictRow], limit: int) -> None:
        self._cursor = cursor
        self._limit = limit
        self._rows: list[DictRow] = []

    async def execute(self, query: LiteralString, params: Sequence[Any]) -> None:
        self._rows = await read_page(self._cursor, query, params, self._limit)

    async def fetchall(self) -> list[DictRow]:
        return self._rows


def _newest(put: PutOp) -> Acknowledged:
    """What the store shows once it has this. If somebody has put something else there since, it looks forgotten."""
    value = None if put.value is None else json.dumps(dict(put.value))
    key = {"item_prefix": ".".join(put.namespace), "item_key": put.key, "item_value": value}
    return Acknowledged(ITEM_IS_AS_PUT, key)


class OwnedStore(BaseStore):
    """What one owner sees of the store: the clients that have a key, and the nodes of the runs that they start.

    Every namespace has the owner's label in front, inside, and no one outside of here sees it. Operations go to the
    database by themselves, not with those of others in one batch, where one that fails would fail them all.
    """

    supports_ttl = True

    def __init__(self, store: GatedStore, owner: str, lease: Lease | None = None) -> None:
        """With `lease`: for the nodes of that run, which may outlive it. Then every operation may raise RunOver."""
        self._store = store
        self._lease = lease
        self._label = label_of(owner)
        self.ttl_config = store.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        given = list(ops)
        return _outside(given, self._store.owning_loop.call(lambda: self._carried_out(given)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        given = list(ops)
        return _outside(given, await self._carried_out(given))

    async def asearch_page(self, *namespace_prefix: Any, **options: Any) -> list[SearchItem]:
        """`asearch`, of which no more is in memory than may be answered. Raises PageTooLarge; a single item may be larger.

        One statement reads the page: between two of them others write, and rows of one age have no order.
        """
        before = _bounded.set(True)
        try:
            return await self.asearch(*namespace_prefix, **options)
        finally:
            _bounded.reset(before)

    async def _carried_out(self, given: list[Op]) -> list[Result]:
        inside = [self._inside(op) for op in given]
        if self._lease is None:
            return await self._store.abatch(inside)
        return await self._store.abatch_under(self._lease, inside)

    def _inside(self, op: Op) -> Op:
        if isinstance(op, GetOp):
            return op._replace(namespace=(self._label, *op.namespace))
        if isinstance(op, PutOp):
            if not op.namespace:
                raise InvalidNamespaceError("Namespace cannot be empty.")
            if op.value is not None:
                _check_value(op)
            # The column counts whole minutes: half of one would be none as soon as somebody reads.
            ttl = None if op.ttl is None else float(max(1, math.ceil(op.ttl)))
            return op._replace(namespace=(self._label, *op.namespace), ttl=ttl)
        if isinstance(op, SearchOp):
            return op._replace(
                namespace_prefix=(self._label, *op.namespace_prefix), filter=_explicit(op.filter)
            )
        return self._listed(op)

    def _listed(self, op: ListNamespacesOp) -> ListNamespacesOp:
        conditions = [MatchCondition("prefix", (self._label,))]
        for condition in op.match_conditions or ():
            if condition.match_type == "prefix":
                conditions.append(MatchCondition("prefix", (self._label, *condition.path)))
            else:
                # A suffix as long as the whole must not match the label.
                depth = ("*",) * len(condition.path)
                conditions += [condition, MatchCondition("prefix", (self._label, *depth))]
        depth_inside = None if op.max_depth is None else op.max_depth + 1
        return op._replace(match_conditions=tuple(conditions), max_depth=depth_inside)


def _check_value(op: PutOp) -> None:
    """Raises ValueError, as LangGraph does officially, but one that says what to do."""
    try:
        dict(cast("Any", op.value))
    except (TypeError, ValueError):
        raise ValueError(
            f"store.put({op.namespace!r}, {op.key!r}, …): a value in the store must be a dict, not {type(op.value).__name__}. "
            'Wrap it in one, such as {"value": …}.'
        ) from None


def _outside(ops: list[Op], results: list[Result]) -> list[Result]:
    """The results without the owner's label."""
    return [
        [namespace[1:] for namespace in cast("list[tuple[str, ...]]", result)]
        if isinstance(op, ListNamespacesOp)
        else _without_label(result)
        for op, result in zip(ops, results, strict=True)
    ]


def _without_label(result: Any) -> Any:
    for item in result if isinstance(result, list) else (result,):
        if isinstance(item, Item):
            item.namespace = item.namespace[1:]
    return result


def _explicit(filter_: dict[str, Any] | None) -> dict[str, Any] | None:
    """A filter in which an object that names no operator is a value like any other."""
    if not filter_:
        return filter_
    return {
        key: {"$eq": value}
        if isinstance(value, dict) and not any(name.startswith("$") for name in value)
        else value
        for key, value in filter_.items()
    }


def _index_config(index: IndexSpec, embed: Any) -> PostgresIndexConfig:
    try:
        model = ensure_embeddings(embed)
    except Exception as error:  # the provider's package, or its key, is missing
        text = " ".join(str(error).split()).rstrip(".")
        raise GraphImportError(f"store.index.embed ({index.embed}): {text}.") from error
    config = {
        "dims": index.dims,
        "embed": model,
        "fields": list(index.fields),
        "distance_type": index.distance,
    }
    return cast("PostgresIndexConfig", config)


class _Prepared(Embeddings):
    """Gives out the vectors that were made before the database was asked."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [_vectors.get()[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return _vectors.get()[text]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed_documents(texts)
