"""Numbers in requests."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt

OFFSET_MAX = 2**53 - 1
"""The largest offset of a page: a number that every JSON reader holds exactly."""


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Behind the bounds of an integer: Pydantic shows only those that come before it."""

Integer = Annotated[StrictInt, WHOLE]
"""An integer as JSON has it: `1.0` is one, `"1"` and `true` are none."""

MANY: Any = Field(max_length=1000, fail_fast=True)
"""Behind a list: how long it may be. What is wrong is said of its first bad item, as a sentence for each of a hundred thousand
would take a second and half a gigabyte."""
