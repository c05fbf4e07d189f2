"""Signatures after the Standard Webhooks specification, which has libraries for receivers in most languages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from slackwater.errors import SettingsError

_PREFIX = "whsec_"


def key_of(secret: str) -> bytes:
    """The key of a secret: `whsec_` and base64, or any text. Raises SettingsError."""
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise SettingsError("SLACKWATER_WEBHOOK_SECRET: the part after whsec_ must be base64.") from None


def signature(key: bytes, delivery_id: str, sent_at: int, body: bytes) -> str:
    """The header `webhook-signature`; `sent_at` in Unix seconds, as in `webhook-timestamp`."""
    digest = hmac.new(key, b"%b.%d.%b" % (delivery_id.encode(), sent_at, body), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
