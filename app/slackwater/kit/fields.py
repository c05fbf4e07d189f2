"""Types of fields in requests."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt

OFFSET_MAX = 2**53 - 1
"""The largest offset of a page: the largest integer that every JSON parser represents exactly."""


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


INTEGRAL = BeforeValidator(_whole)
"""To be placed after the bounds of an integer: Pydantic's schema shows only those before it."""

Integer = Annotated[StrictInt, INTEGRAL]
"""An integer as JSON defines it: `1.0` is one, `"1"` and `true` are not."""

BOUNDED_LIST: Any = Field(max_length=1000, fail_fast=True)
"""The maximum length of a list. Only its first invalid item is reported: a message for each of a hundred thousand would take a
second and half a gigabyte."""
