"""Whatever the server is sent, it answers as its OpenAPI document says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from slackwater.identity.keys import new_key
from tests.contract.trial import try_out
from tests.support.server import ROOT, fleet_of

EXAMPLES = int(os.environ.get("SLACKWATER_EXAMPLES", "2"))
"""Requests at random, of each kind, for each operation."""
SEED = int(os.environ.get("SLACKWATER_SEED", "1"))


@pytest.mark.drill
@pytest.mark.patient
async def test_the_server_does_what_its_document_says(
    database_uri: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    # GIVEN a server that asks for a key
    secret, key = new_key("maria")
    env = {"SLACKWATER_API_KEYS": f"{key.name}:{key.sha256}", "SLACKWATER_LEASE_SECONDS": "30"}
    async with fleet_of(database_uri, tmp_path, ROOT / "tests" / "graphs", env) as fleet:
        # Some of its graphs fail.
        (server,) = await fleet.start(tolerated=("Traceback",))
        # WHEN Schemathesis sends it what the document allows, and what it does not
        found = await try_out(
            server.url, secret, tmp_path, "--seed", str(SEED), "--max-examples", str(EXAMPLES)
        )
        # THEN it has found nothing: no 5xx, no answer that is not in the document, nothing wrong that is accepted
        assert found.status == 0, found.text
        # and has tried all there is
        served = {
            f"{method.upper()} {path}"
            for path, item in json.loads((tmp_path / "openapi.json").read_text())["paths"].items()
            for method in item
        }
        assert served <= found.tried
        # and the server is as it was
        assert await server.answers() == 200
    if summary := re.search(r"(\d+) generated", found.text):
        record_property("figure", f"{summary[1]} requests")
