"""What the items of an owner in the store are known by."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

LABEL_BYTES = 200


def label_of(owner: str) -> str:
    """The label that an owner's namespaces begin with. Never the same for two owners; no label of a pattern's."""
    label = "@" + quote(owner, safe="@:/").replace(".", "%2E")
    if len(label) > LABEL_BYTES:  # a key of an index has its limit; no name that is short enough has a `#`
        return "@#" + hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()
    return label
