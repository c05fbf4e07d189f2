"""How the secrets of signing keys are kept from whoever reads the database: a JWE each, by a key of the settings."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterable
from dataclasses import dataclass, field

BYTES = 32

EXPECTED = (
    "must be 32 random bytes in base64, as printed by `openssl rand -base64 32`; while it is being changed two of them, "
    "the new one first, separated by a comma"
)

_TEXT = re.compile(r"[A-Za-z0-9+/_-]{43}=?")


UNENCRYPTED = (
    "The keys that sign tokens are not encrypted in the database: set SLACKWATER_ENCRYPTION_KEY to the output of "
    "`openssl rand -base64 32`, the same for all processes."
)

_OTHERWISE = (
    "If that key is lost, `slackwater signing rotate --now` makes a new signing key and ends all sessions."
)

_ANOTHER = (
    "SLACKWATER_ENCRYPTION_KEY is not the one by which the signing keys in the database are encrypted: set it to that one, "
    f"or, to change it, to the new and the old one, separated by a comma. {_OTHERWISE}"
)

_NONE = (
    "The signing keys in the database are encrypted: set SLACKWATER_ENCRYPTION_KEY, or SLACKWATER_ENCRYPTION_KEY_SECRET_ARN, "
    f"to the value that the other processes have. {_OTHERWISE}"
)


class Sealed(Exception):
    """This process does not have the key that has encrypted it."""


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """One of them."""

    key_id: str
    """Tells keys apart, and nothing about them: they have 256 random bits."""
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> EncryptionKey:
        """Raises ValueError, which says what is expected, and nothing of what was given."""
        try:
            if not _TEXT.fullmatch(text):
                raise ValueError(EXPECTED)
            secret = b64decode(text.rstrip("=").translate(str.maketrans("-_", "+/")) + "=", validate=True)
        except Error:
            raise ValueError(EXPECTED) from None
        return cls(hashlib.sha256(b"slackwater encryption key\n" + secret).hexdigest()[:12], secret)


class Encryption:
    """The keys of a process: it encrypts by the first one, and decrypts by any of them. There may be none."""

    def __init__(self, keys: Iterable[EncryptionKey] = ()) -> None:
        self.keys = {key.key_id: key for key in keys}

    @classmethod
    def parse(cls, text: str) -> Encryption:
        """`key` or `new,old`. Raises ValueError, which says what is expected."""
        items = [item.strip() for item in text.split(",")]
        return cls(EncryptionKey.parse(item) for item in items)

    @property
    def first(self) -> str | None:
        """The id of the key that new secrets are encrypted by; None if they are not."""
        return next(iter(self.keys), None)

    def seal(self, text: str, by: str | None) -> str:
        """What is stored. `by`: the id of one of the keys, or None."""
        if by is None:
            return text
        from joserfc import jwe
        from joserfc.jwk import OctKey

        header = {"alg": "dir", "enc": "A256GCM"}
        return jwe.encrypt_compact(header, text.encode(), OctKey.import_key(self.keys[by].secret))

    def unseal(self, stored: str, by: str | None) -> str:
        """The opposite. Raises Sealed."""
        if by is None:
            return stored
        if by not in self.keys:
            raise Sealed
        from joserfc import jwe
        from joserfc.errors import JoseError
        from joserfc.jwk import OctKey

        try:
            opened = jwe.decrypt_compact(
                stored, OctKey.import_key(self.keys[by].secret), algorithms=["dir", "A256GCM"]
            ).plaintext
        except (JoseError, ValueError):
            raise Sealed from None
        return (opened or b"").decode()


def unreadable(encryption: Encryption) -> str:
    """What to do where keys in the database cannot be decrypted."""
    return _ANOTHER if encryption.keys else _NONE
