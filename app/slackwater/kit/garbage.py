"""The garbage collector of a serving process: what it traverses, and how often."""

from __future__ import annotations

import gc

YOUNG = 10_000
"""Threshold of the youngest generation, in objects. A run keeps hundreds until it ends: with the default of 700, those of sixteen
concurrent runs were traversed again and again, for nothing, which took 6 % of the server's CPU time."""

MIDDLE, OLD = 2, 2
"""Thresholds of the older generations, in collections of the next younger one. Cyclic garbage of runs has grown old by the time they
end: with the defaults of 10 and 10, over a million objects of several bursts of runs stayed. Whatever is set here, the
interpreter collects the oldest generation only when it has grown by a quarter."""


def freeze() -> None:
    """Exclude everything that exists now from collection: it lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.collect()  # resets the count behind that quarter, which would otherwise include what has just been frozen
    gc.set_threshold(YOUNG, MIDDLE, OLD)
