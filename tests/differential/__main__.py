"""`python -m tests.differential OFFICIAL_URL OUR_URL [WORDS …]`: the scenarios by hand, on servers that run already."""

from __future__ import annotations

import asyncio
import sys

from tests.differential.deliberate import explained
from tests.differential.meant import DELIBERATE
from tests.differential.scenario import play_all
from tests.differential.scenarios import all_scenarios


def main(official_url: str, our_url: str, *words: str) -> int:
    chosen = [s for s in all_scenarios() if not words or any(word in s.name for word in words)]
    played = asyncio.run(play_all(chosen, official_url, our_url))
    unexplained, unused = explained((found for one in played for found in one.differences), DELIBERATE)
    for difference in unexplained:
        print(difference)
    for text in (text for one in played for text in one.broken):
        print(text)
    if not words:
        for line, place in unused:
            print(f"does not occur: {place} of {line!r}")
    print(f"{len(chosen)} scenarios, {len(unexplained)} unexplained differences")
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
