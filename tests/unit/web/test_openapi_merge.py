"""One OpenAPI document for two applications."""

from __future__ import annotations

import copy
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from slackwater.web.openapi.merge import merge

OURS: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Slackwater"},
    "paths": {"/threads": {"post": {"summary": "ours"}, "get": {"summary": "ours"}}},
    "components": {"schemas": {"Thread": {"type": "object", "title": "Thread"}}},
}


class Thread(BaseModel):
    colour: str


def test_the_applications_routes_are_described_with_schemas_of_their_own() -> None:
    own = FastAPI()

    @own.post("/threads", summary="theirs")
    async def make(body: Thread) -> None: ...

    before = copy.deepcopy(OURS)
    found = merge(OURS, own.openapi())

    assert before == OURS
    assert found["info"] == {"title": "Slackwater"}
    assert found["paths"]["/threads"]["get"] == {"summary": "ours"}
    theirs = found["paths"]["/threads"]["post"]
    assert theirs["summary"] == "theirs"
    body = theirs["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/OwnThread"}
    assert found["components"]["schemas"]["OwnThread"]["properties"].keys() == {"colour"}
    assert found["components"]["schemas"]["Thread"] == OURS["components"]["schemas"]["Thread"]
    assert "HTTPValidationError" in found["components"]["schemas"]
