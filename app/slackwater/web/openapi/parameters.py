"""Descriptions of parameters that several operations have."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.web.openapi.pieces import Json

THREAD = "0199b6d2-6c1e-7d4a-9c57-0a4f6f5b9d10"
RUN = "0199b6d2-7a90-7b3e-8f21-5c2d8e6f7a01"
ASSISTANT = "046b5dc7-2108-582c-9c6c-31d556d138f0"
CRON = "0199b6d3-0b1f-7c5d-a1e2-9d8c7b6a5f42"
CHECKPOINT = "1f0a5c3e-5d0b-6b1c-8001-3f5e7d9c1b2a"
MOMENT = "2026-11-23T20:58:40.877892+00:00"
"""Values used in examples."""


def _id(of: str, example: str) -> Json:
    return {
        "description": f"The id of {of}.",
        "schema": {"type": "string", "format": "uuid"},
        "example": example,
    }


PARAMETERS: Mapping[str, Json] = {
    "thread_id": _id("the thread", THREAD),
    "run_id": _id("the run", RUN),
    "assistant_id": _id("the assistant", ASSISTANT),
    "cron_id": _id("the cron", CRON),
    "checkpoint_id": _id("the checkpoint", CHECKPOINT),
    "limit": {"description": "The maximum number of results."},
    "offset": {"description": "How many results to skip."},
    "select": {"description": "The keys to return; all of them if empty."},
    "Idempotency-Key": {
        "description": "Identifies this request for 24 hours: if it is repeated, the run of the first request is returned.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": r"^[^\x00-\x1f\x7f-\xa0\xad]+$",
        },
        "example": "8f1d6a52-order-4711",
    },
    "Last-Event-ID": {
        "description": "The id of the last event received; only later events are sent.",
        "example": "1-17",
    },
    "cancel_on_disconnect": {
        "description": "If `true`, `1` or `yes`, the run is cancelled when this client disconnects.",
        "example": "true",
    },
}
