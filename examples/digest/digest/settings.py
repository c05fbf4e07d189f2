"""What the operator of the server decides. Nothing here comes from a run's input."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Settings:
    root: Path
    """The only folder whose texts runs may read."""
    out: Path | None
    """Where reports are written; None writes none."""
    model: str | None
    """For `init_chat_model`; None is the model that needs no key."""
    words_per_second: float
    """How fast the model without a key speaks; 0 is at once."""

    @classmethod
    def load(cls) -> Settings:
        out = os.environ.get("DIGEST_OUT") or str(PROJECT / "out")
        return cls(
            root=Path(os.environ.get("DIGEST_ROOT") or PROJECT / "texts").resolve(),
            out=None if out == "-" else Path(out),
            model=os.environ.get("DIGEST_MODEL") or None,
            words_per_second=float(os.environ.get("DIGEST_WORDS_PER_SECOND") or 25),
        )
