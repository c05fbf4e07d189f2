"""The garbage collector of a process that serves: what it looks through, and how often."""

from __future__ import annotations

import gc

YOUNG = 10_000
"""The youngest objects are looked through when there are so many more of them than before. A run keeps hundreds until it
ends: with the interpreter's 700 those of sixteen runs side by side were looked through time and again, for nothing,
which was 6 % of the server's CPU time."""

MIDDLE, OLD = 2, 2
"""So many times the younger ones are looked through before the older ones are, too. What runs leave in cycles has grown old
with many others beside them: with the interpreter's 10 and 10 that of more than a million objects stayed, of several bursts
of runs. All of it is looked through no sooner than there is a quarter more of it, whatever is said here."""


def settle() -> None:
    """What is there now stays for as long as the process: it is not looked through any more."""
    gc.collect()
    gc.freeze()
    gc.collect()  # of nothing: else a quarter of what is kept would have to come before all is looked through
    gc.set_threshold(YOUNG, MIDDLE, OLD)
