"""Signatures after the Standard Webhooks specification, which has libraries for receivers in most languages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from slackwater.errors import SettingsError

_PREFIX = "whsec_"


TOLERANCE_SECONDS = 300
"""How far a sender's clock may be from ours, either way. What is older may be somebody else's copy."""

_SENT_AT = re.compile(r"[0-9]{1,12}")


def key_of(secret: str, name: str = "SLACKWATER_WEBHOOK_SECRET") -> bytes:
    """The key of a secret: `whsec_` and base64, or any text. Raises SettingsError, in which it has this name."""
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise SettingsError(f"{name}: the part after whsec_ must be base64.") from None


def signature(key: bytes, delivery_id: str, sent_at: int, body: bytes) -> str:
    """The header `webhook-signature`; `sent_at` in Unix seconds, as in `webhook-timestamp`."""
    digest = hmac.new(key, b"%b.%d.%b" % (delivery_id.encode(), sent_at, body), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def is_recent(sent_at: str, now: float) -> bool:
    """Whether a header with Unix seconds is of this moment, as far as clocks agree."""
    return _SENT_AT.fullmatch(sent_at) is not None and abs(now - int(sent_at)) <= TOLERANCE_SECONDS


def is_signed(key: bytes, delivery_id: str, sent_at: str, body: bytes, signatures: str, now: float) -> bool:
    """Whether one of the `signatures` of a delivery (`v1,… v1,…`: a sender who changes its secret sends two) is ours, and recent."""
    if not is_recent(sent_at, now):
        return False
    # What was signed is the header as it was sent.
    signed = b"%b.%b.%b" % (delivery_id.encode(), sent_at.encode(), body)
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    return any(hmac.compare_digest(expected, given.encode()) for given in signatures.split())
