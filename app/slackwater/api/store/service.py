"""The rules of the store: each owner has one, and the nodes of the owner's runs see the same.

There are no queries here: `slackwater.runtime.execution.store` has them, for clients and nodes alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from slackwater.api.store.models import (
    ItemDelete,
    ItemPut,
    ItemSearch,
    NamespaceList,
    check_key,
    check_labels,
)
from slackwater.errors import BadRequest, Draining
from slackwater.identity.custom import access
from slackwater.identity.custom.access import Value
from slackwater.identity.custom.filters import Filter
from slackwater.identity.principal import Principal
from slackwater.kit.json_format import timestamp
from slackwater.runtime.execution import engine

if TYPE_CHECKING:
    from langgraph.store.base import Item

    from slackwater.runtime.execution.store import OwnedStore
    from slackwater.services import Services

Changed = TypeVar("Changed", ItemPut, ItemDelete)


async def put(services: Services, principal: Principal, body: ItemPut) -> None:
    """Raises BadRequest and Invalid. Afterwards the item is in the database."""
    check_key(body.namespace, body.key)
    if principal.user is not None:
        value: Value = {"namespace": tuple(body.namespace), "key": body.key, "value": body.value}
        value |= {"index": body.index, "ttl": body.ttl}
        body = await _decided(services, principal, "put", body, value)
        check_key(body.namespace, body.key)
    ttl = {"ttl": body.ttl} if "ttl" in body.model_fields_set else {}
    async with _store(services, principal) as store:
        await store.aput(tuple(body.namespace), body.key, body.value, index=body.index, **ttl)


async def get(
    services: Services, principal: Principal, namespace: list[str], key: str, refresh_ttl: bool | None
) -> dict[str, Any] | None:
    """The item, or None. Raises BadRequest and Invalid."""
    check_key(namespace, key)
    if principal.user is not None:
        value: Value = {"namespace": tuple(namespace), "key": key, "refresh_ttl": refresh_ttl}
        await access.decide(services, principal, "store", "get", value)
        namespace, key = check_labels([*value["namespace"]]), value["key"]
        check_key(namespace, key)
    async with _store(services, principal) as store:
        item = await store.aget(tuple(namespace), key, refresh_ttl=refresh_ttl)
    return None if item is None else _view(item)


async def delete(services: Services, principal: Principal, body: ItemDelete) -> None:
    """Raises BadRequest and Invalid; not for what is not there."""
    check_key(body.namespace, body.key)
    if principal.user is not None:
        value: Value = {"namespace": tuple(body.namespace), "key": body.key}
        body = await _decided(services, principal, "delete", body, value)
        check_key(body.namespace, body.key)
    async with _store(services, principal) as store:
        await store.adelete(tuple(body.namespace), body.key)


async def search(services: Services, principal: Principal, body: ItemSearch) -> list[dict[str, Any]]:
    """The last written first or, with a query and an index, the most similar. Raises BadRequest and PageTooLarge."""
    if principal.user is not None:
        value: Value = {
            "namespace": tuple(body.namespace_prefix or ()),
            "filter": body.filter,
            "query": body.query,
        }
        value |= {"limit": body.limit, "offset": body.offset, "refresh_ttl": body.refresh_ttl}
        filter_ = await access.decide(services, principal, "store", "search", value)
        wanted = _both(value.pop("filter"), filter_)
        prefix = [*value.pop("namespace")]
        body = ItemSearch.model_validate({**value, "namespace_prefix": prefix, "filter": wanted or None})
    async with _store(services, principal) as store:
        items = await store.asearch_page(
            tuple(body.namespace_prefix or ()),
            query=body.query,
            filter=_checked(body.filter),
            limit=body.limit,
            offset=body.offset,
            refresh_ttl=body.refresh_ttl,
        )
    return [{**_view(item), "score": item.score} for item in items]


async def namespaces(
    services: Services, principal: Principal, body: NamespaceList
) -> Sequence[tuple[str, ...]]:
    """In alphabetical order."""
    if principal.user is not None:
        value: Value = {
            "namespace": tuple(body.prefix) if body.prefix else None,
            "suffix": tuple(body.suffix) if body.suffix else None,
            "max_depth": body.max_depth,
            "limit": body.limit,
            "offset": body.offset,
        }
        await access.decide(services, principal, "store", "list_namespaces", value)
        prefix, suffix = value.pop("namespace"), value.pop("suffix")
        body = NamespaceList.model_validate(
            {**value, "prefix": prefix and [*prefix], "suffix": suffix and [*suffix]}
        )
    async with _store(services, principal) as store:
        return await store.alist_namespaces(
            prefix=tuple(body.prefix or ()),
            suffix=tuple(body.suffix or ()),
            max_depth=body.max_depth,
            limit=body.limit,
            offset=body.offset,
        )


async def _decided(
    services: Services,
    principal: Principal,
    action: Literal["put", "delete"],
    body: Changed,
    value: dict[str, Any],
) -> Changed:
    """A request as a handler has left it. Raises RefusedByAuth."""
    await access.decide(services, principal, "store", action, value)
    if value.get("ttl") is None and "ttl" not in body.model_fields_set:
        value.pop("ttl", None)  # the default applies
    return type(body).model_validate({**value, "namespace": [*value["namespace"]]})


def _both(asked: dict[str, Any] | None, filter_: Filter | None) -> dict[str, Any]:
    """What a request asks for and what a handler's filter allows. Raises ValueError for a filter that the store has not."""
    both = dict(asked or {})
    for name, wanted in (filter_ or {}).items():
        operators = wanted if isinstance(wanted, Mapping) else {"$eq": wanted}
        if name.startswith("$") or operators.keys() != {"$eq"}:
            raise ValueError(f"{name}: a filter for the store compares fields of items only: {wanted!r}")
        if name not in both:
            both[name] = dict(operators)
            continue
        mine = both[name]
        if not isinstance(mine, Mapping) or not any(str(key).startswith("$") for key in mine):
            mine = {"$eq": mine}
        if mine.get("$eq", operators["$eq"]) != operators["$eq"]:
            operators = {**operators, "$ne": operators["$eq"]}  # nothing has two values
        both[name] = {**mine, **operators}
    return both


@asynccontextmanager
async def _store(services: Services, principal: Principal) -> AsyncIterator[OwnedStore]:
    """The principal's store. Raises Draining, and BadRequest for a namespace that nothing may be put under."""
    await engine.load()
    try:
        yield services.runtime.store_of(principal.owner)
    except engine.InvalidNamespaceError as error:
        raise BadRequest(str(error)) from None
    except asyncio.CancelledError:
        # The gate says "no more" in this way; nobody has cancelled the request.
        task = asyncio.current_task()
        if services.database.gate.is_shut and task is not None and not task.cancelling():
            raise Draining from None
        raise


def _checked(filter_: dict[str, Any] | None) -> dict[str, Any] | None:
    """Raises BadRequest for an operator that there is not, or that cannot compare what it was given."""
    for condition in (filter_ or {}).values():
        if not isinstance(condition, dict) or not any(name.startswith("$") for name in condition):
            continue
        for operator, value in condition.items():
            if operator not in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"):
                raise BadRequest(f"Unsupported operator: {operator}")
            if operator not in ("$eq", "$ne") and (
                isinstance(value, bool) or not isinstance(value, str | int | float)
            ):
                raise BadRequest(f"Operator {operator} needs a number or a string")
    return filter_


def _view(item: Item) -> dict[str, Any]:
    return {
        "namespace": item.namespace,
        "key": item.key,
        "value": item.value,
        "created_at": timestamp(item.created_at),
        "updated_at": timestamp(item.updated_at),
    }
