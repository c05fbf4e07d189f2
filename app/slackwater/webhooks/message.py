"""What a receiver gets: a body, and headers after the Standard Webhooks specification."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from slackwater import __version__
from slackwater.api.runs.models import shown
from slackwater.kit import json_format
from slackwater.webhooks.policy import Policy
from slackwater.webhooks.signature import signature


def body_of(row: Mapping[str, Any], policy: Policy) -> bytes:
    """The run as the API shows it, whose it is, its status at its end, its times, its thread's values, its error."""
    run = row["run"]
    times = {name: _time(run[name]) for name in ("created_at", "updated_at", "started_at", "ended_at")}
    body = shown({**run, **times})
    # A signature says that this server has sent it. For whom, only the body can say.
    body["owner"] = row["owner"]
    if run["status"] == "interrupted" and run["cancel_action"] == "rollback":
        body["status"] = "rollback"
    body["run_started_at"] = _text(times["started_at"])
    body["run_ended_at"] = _text(times["ended_at"])
    body["webhook_sent_at"] = json_format.timestamp(datetime.now(UTC))
    body["values"] = row["values"]
    if run["error"] and run["status"] != "success":  # a success may say that it is none: see `own_failure`
        body["error"] = run["error"]
    if policy.allowed_fields:
        body = {name: value for name, value in body.items() if name in policy.allowed_fields}
    return json_format.dumps(body)


def headers_of(
    delivery_id: str, body: bytes, *, key: bytes | None, now: int, policy: Policy
) -> dict[str, str]:
    """The project's headers and ours. `webhook-id` is the same for each attempt; `now` in Unix seconds."""
    headers = {
        "user-agent": f"slackwater/{__version__}",
        **policy.headers,
        "content-type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(now),
    }
    if key is not None:
        headers["webhook-signature"] = signature(key, delivery_id, now, body)
    return headers


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else json_format.timestamp(moment)
