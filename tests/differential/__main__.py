"""`python -m tests.differential [--project NAME] OFFICIAL_URL OUR_URL [WORDS …]`: the scenarios by hand, on servers that run already."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.differential.deliberate import explained
from tests.differential.meant import MEANT
from tests.differential.scenario import play_all
from tests.differential.scenarios import all_scenarios


def main(official_url: str, our_url: str, words: list[str], project: str) -> int:
    scenarios = all_scenarios(project)
    chosen = [s for s in scenarios if not words or any(word in s.name for word in words)]
    played = asyncio.run(play_all(chosen, official_url, our_url))
    found = [difference for one in played for difference in one.differences]
    unexplained, unused = explained(found, MEANT[project])
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
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--project", default="project")
    parser.add_argument("official_url")
    parser.add_argument("our_url")
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    sys.exit(main(given.official_url, given.our_url, given.words, given.project))
