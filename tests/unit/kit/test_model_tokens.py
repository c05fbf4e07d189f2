"""What models say of their tokens."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.kit.tokens import Tokens

DETAILS = {"input_token_details": {"cache_read": 4}, "output_token_details": {"reasoning": 2}}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 10, "output_tokens": 5, "total_tokens": 16, **DETAILS}, Tokens(10, 5, 16, 4, 2)),
        ({"input_tokens": 10, "output_tokens": 5}, Tokens(10, 5, 15)),
        ({"input_tokens": None, "output_tokens": "5", "total_tokens": 3}, Tokens(0, 0, 3)),
        ({"input_tokens": -1, "output_tokens": 2**70}, Tokens(0, 2**62, 2**62)),
        ({"input_tokens": 1, "input_token_details": "many", "output_token_details": None}, Tokens(1, 0, 1)),
    ],
)
def test_what_is_no_count_counts_as_nothing(usage: dict[str, Any], tokens: Tokens) -> None:
    assert Tokens.of(usage) == tokens
