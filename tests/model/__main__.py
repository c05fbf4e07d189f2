"""`python -m tests.model --examples 1000 --seed 7`: the model for longer, on a throwaway server; shrinks what it finds."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from slackwater.postgres.embedded import EmbeddedPostgres
from slackwater.postgres.schema import migrate
from tests.model.machine import check
from tests.model.world import World


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--steps", type=int, default=30, help="what happens in one example, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slackwater-model-") as folder:
        server = EmbeddedPostgres(Path(folder), throwaway=True)
        uri = server.start()
        try:
            asyncio.run(migrate(uri))
            world = World(uri)
            since = time.monotonic()
            try:
                check(world, examples=options.examples, steps=options.steps, seed=options.seed, shrink=True)
            finally:
                world.close()
            print(f"{options.examples} examples, {time.monotonic() - since:.0f} s: everything holds")
        finally:
            server.release()
            server.wait_stopped(10)


if __name__ == "__main__":
    main()
