"""What the routes of accounts have in common: small requests, also of nobody; errors that a page can show; answers nobody stores."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

from slackwater.errors import Draining, Invalid, InvalidField
from slackwater.web.http import JsonRequest, JsonRoute, json_response
from slackwater.web.scope import services_of

BYTES = 16_384
"""Of a request. Anybody may send one."""

FIELDS = 20


class SmallRequest(JsonRequest):
    """A request whose body is small, JSON or a form."""

    @property
    def limit(self) -> int:
        return min(BYTES, super().limit)

    async def form_fields(self) -> dict[str, str]:
        """The fields of `application/x-www-form-urlencoded`; of two with one name the last. Raises Invalid."""
        try:
            text = (await self.body()).decode()
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS, errors="strict"))
        except ValueError:  # UnicodeDecodeError is one, too
            raise Invalid("The form cannot be read: send UTF-8, and no more than its fields.") from None


class AccountRoute(JsonRoute):
    """One of them. A trailing slash makes no difference."""

    request_type = SmallRequest

    def __init__(self, path: str, *args: Any, **options: Any) -> None:
        super().__init__(path, *args, **options)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + "/?$")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_account(request: Request) -> Response:
            # Where nobody needs to be authenticated, nobody has asked yet.
            if services_of(request.scope).runtime.closed:
                raise Draining
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise InvalidField.of(_problems(error)) from None

        return handle_account


def _problems(error: RequestValidationError) -> list[tuple[list[str], str]]:
    return [
        ([str(part) for part in problem["loc"]], problem["msg"].removeprefix("Value error, "))
        for problem in error.errors()
    ]


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON that no cache keeps."""
    return json_response(value, status, {"Cache-Control": "no-store", **(headers or {})})
