"""Owners as projects may use them in paths: letters, digits, `-` and `_`."""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

from slackwater.identity.accounts.account import OWNER as ACCOUNT

_SAFE_AS_IT_IS = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_HASH_ENDING = re.compile(r"-[0-9a-f]{24}")
"""How the ids end that are made here."""


def safe_id(owner: str) -> str:
    """The owner as the name of a folder, never the same for two: of an account its id, of a plain name itself, else one with a hash."""
    of_account = owner.removeprefix(ACCOUNT)
    if of_account != owner and _is_uuid(of_account):
        return of_account
    if _SAFE_AS_IT_IS.fullmatch(owner) and not _is_uuid(owner) and not _HASH_ENDING.fullmatch(owner[-25:]):
        return owner
    return f"{_UNSAFE.sub('_', owner)[:40]}-{hashlib.sha256(owner.encode()).hexdigest()[:24]}"


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
