"""The context of a run as its graph gets it: built from the graph's context schema, and never None."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


class ContextMismatch(ValueError):
    """The run's context does not fit the context schema of its graph; the text names the field."""

    def __init__(self, schema: type[Any], problem: str, error: str) -> None:
        super().__init__(
            f"The run's context does not fit the graph's context schema {schema.__name__}: {problem}. "
            "Send it in the `context` of the run, or store it in the assistant's."
        )
        self.error = error
        """The class of what went wrong, as the official server names it."""


class PresentContext(dict[str, Any]):
    """A context that may be empty: LangGraph would take an empty dict for none, and give the nodes None."""

    def __bool__(self) -> bool:
        return True


def ids_of(config: RunnableConfig) -> dict[str, str]:
    """The ids of its run that a context may hold."""
    configurable = config.get("configurable") or {}
    return {name: str(configurable[name]) for name in ("thread_id", "run_id") if name in configurable}


def fitted(schema: type[Any] | None, given: Mapping[str, Any] | None, ids: Mapping[str, str]) -> Any:
    """The context for a graph with `schema`: an instance of it with its defaults, or else a dict of the run's own.

    Keys that the schema does not declare are left out. `ids` are the run's: they are in a context without a schema, and
    in one that declares them. Raises ContextMismatch.
    """
    context: dict[str, Any] = deepcopy(
        dict(given or {})
    )  # a node may change it, and the run's row stays as it is
    declared = _declared(schema)
    if schema is None or (declared is None and not _is_built(schema)):
        return {**context, **ids}
    if declared is not None:
        context = {key: value for key, value in {**ids, **context}.items() if key in declared}
    if not _is_built(schema):
        return PresentContext(context)
    try:
        return schema(**context)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc'])) or 'context'}: {each['msg']}" for each in error.errors()]
        raise ContextMismatch(schema, "; ".join(wrong), type(error).__name__) from error
    except TypeError as error:
        missing = ", ".join(f"`{name}`" for name in _required(schema) if name not in context)
        if not missing:
            raise
        raise ContextMismatch(schema, f"{missing} is missing", type(error).__name__) from error


def _is_built(schema: Any) -> bool:
    """Whether a context is an instance of it, and no dict."""
    return isinstance(schema, type) and (is_dataclass(schema) or issubclass(schema, BaseModel))


def _declared(schema: Any) -> set[str] | None:
    """The keys that a context may have; None: any."""
    if is_dataclass(schema):
        return {field.name for field in fields(schema) if field.init}
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        if schema.model_config.get("extra") == "allow":
            return None
        names = set(schema.model_fields)
        for field in schema.model_fields.values():
            for alias in (field.alias, field.validation_alias):
                names |= _keys(alias)
        return names
    annotations = getattr(schema, "__annotations__", None)
    return None if annotations is None else set(annotations)


def _keys(alias: str | AliasPath | AliasChoices | None) -> set[str]:
    if isinstance(alias, AliasChoices):
        return {key for choice in alias.choices for key in _keys(choice)}
    if isinstance(alias, AliasPath):
        return {str(alias.path[0])}
    return set() if alias is None else {alias}


def _required(schema: type[Any]) -> list[str]:
    if not is_dataclass(schema):
        return []
    return [
        field.name
        for field in fields(schema)
        if field.init and field.default is MISSING and field.default_factory is MISSING
    ]
