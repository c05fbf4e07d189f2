"""Slack: who has signed, what was said, and how an answer is posted.

Without Slack's own package: a signature is an HMAC, and a call is a POST.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from slackwater.channels.message import Incoming, answer_in, said
from slackwater.webhooks.signature import is_recent

SIGNATURE, SENT_AT = "x-slack-signature", "x-slack-request-timestamp"

NOTICE = "Working on it…"
FAILED, STOPPED, NOTHING = "Something went wrong: there is no answer.", "This was stopped.", "Done."
WAITS = "This waits for an answer."

POST_CHARACTERS, UPDATE_CHARACTERS = 40_000, 4_000
"""Slack cuts a message that is longer, and refuses to make one longer that is there already."""

GONE = frozenset(
    {"message_not_found", "cant_update_message", "cant_delete_message", "edit_window_closed", "msg_too_long"}
)
"""Errors after which a message cannot be replaced or taken back, however often that is tried."""

_MENTION = re.compile(r"<@[A-Z0-9]+(\|[^>]*)?>")
_HALF_ESCAPED = re.compile(r"&[a-z]*\Z")
_SAID = frozenset({None, "file_share", "thread_broadcast"})
"""Subtypes of messages in which somebody says something. Others tell of edits, of who has joined, and so on."""


def is_signed(key: bytes, sent_at: str, body: bytes, signature: str, now: float) -> bool:
    """Whether a request is Slack's, and recent."""
    if not is_recent(sent_at, now):
        return False
    digest = hmac.new(key, b"v0:%b:%b" % (sent_at.encode(), body), hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={digest}".encode(), signature.encode())


def challenge_in(payload: Mapping[str, Any]) -> str | None:
    """What Slack wants to hear when the URL is entered there."""
    challenge = payload.get("challenge")
    return challenge if payload.get("type") == "url_verification" and isinstance(challenge, str) else None


def incoming_in(payload: Mapping[str, Any]) -> Incoming | None:
    """What somebody says to the app; None for everything else, such as what it says itself."""
    event = payload.get("event")
    if payload.get("type") != "event_callback" or not isinstance(event, Mapping) or event.get("bot_id"):
        return None
    kind, room, moment, user, text = (_text(event.get(k)) for k in ("type", "channel", "ts", "user", "text"))
    text = html.unescape(_MENTION.sub("", text)).strip()
    if not (room and moment and user and text) or event.get("subtype") not in _SAID:
        return None
    thread, direct = _text(event.get("thread_ts")), event.get("channel_type") == "im"
    # Beside people who talk to each other, it has to be called first; then what follows in that thread is for it.
    if kind not in ("app_mention", "message") or (kind == "message" and not direct and not thread):
        return None
    root = thread or ("" if direct else moment)
    team = _text(payload.get("team_id"))
    return Incoming(
        # Not the event's id: what is said in a thread and mentions the app comes as two events. Each of them comes again with the
        # same channel and time.
        delivery_id=f"{team}:{room}:{moment}",
        conversation_id=f"{team}:{room}:{root}",
        input=said(text),
        user=user,
        place={"channel": room, **({"thread_ts": root} if root else {})},
        begins=direct or kind == "app_mention",
    )


class SlackAnswer(NamedTuple):
    """What came of a call of Slack's API."""

    message: str | None
    """The message that it has made or changed, by its time."""
    trouble: str | None
    """Why it was not taken, or None."""
    is_gone: bool = False
    """What was to be replaced cannot be: see `GONE`."""


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """What people see of a run, and what tells programs which run that is: who finds two such messages knows that they are one."""
    run = row["run"]
    payload = {"run_id": run["run_id"], "status": run["status"]}
    text = html.escape(text_for(row), quote=False)  # or `<!channel>` would call everybody
    return {
        "text": _HALF_ESCAPED.sub("", text[:POST_CHARACTERS]),
        "metadata": {"event_type": "slackwater_run", "event_payload": payload},
    }


def post(place: Mapping[str, Any], message: Mapping[str, Any]) -> tuple[str, bytes]:
    """The method of Slack's API that says something there, and its body."""
    return "chat.postMessage", orjson.dumps({**place, **message})


def update(place: Mapping[str, Any], old: str, message: Mapping[str, Any]) -> tuple[str, bytes]:
    """The same, in place of what was said."""
    return "chat.update", orjson.dumps({"channel": place["channel"], "ts": old, **message})


def delete(place: Mapping[str, Any], old: str) -> tuple[str, bytes]:
    """Take it back."""
    return "chat.delete", orjson.dumps({"channel": place["channel"], "ts": old})


def text_for(row: Mapping[str, Any]) -> str:
    """What is said of a run: what has been answered, what it asks, or why there is nothing."""
    match row["run"]["status"]:
        case "pending":
            return NOTICE
        case "success":
            parts = answer_in(row["values"]), _asked(row["run"].get("interrupts") or {})
            return "\n\n".join(filter(None, parts)) or NOTHING
        case "interrupted":
            return STOPPED
    return FAILED


def answer_of(body: bytes) -> SlackAnswer:
    """What Slack says came of a call."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        return SlackAnswer(None, "answered what is no JSON object")
    if answer.get("ok") is not True:
        error = _text(answer.get("error")) or "a refusal"
        return SlackAnswer(None, f"answered {error}", error in GONE)
    return SlackAnswer(_text(answer.get("ts")) or None, None)


def _asked(interrupts: Mapping[str, list[Mapping[str, Any]]]) -> str | None:
    """What the run wants to know, by the interrupts of each task; None if it has not stopped at one."""
    values = [interrupt["value"] for of_task in interrupts.values() for interrupt in of_task]
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    return "\n\n".join(texts) or (WAITS if values else None)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
