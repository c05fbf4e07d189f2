"""`python -m tests.fuzz --calls 200000 --seed 7`: the calls for longer, on a throwaway server; shrinks what it finds."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
import time
from pathlib import Path

from slackwater.postgres.embedded import EmbeddedPostgres
from slackwater.postgres.schema import migrate
from tests.fuzz.machine import STEPS, Calls, check
from tests.fuzz.world import World

STOPS = (None, None, signal.SIGTERM, None, None, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=STEPS, help="calls in one example, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="slackwater-fuzz-") as folder:
        database = Path(folder) / "database"
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(database, throwaway=True)
        uri = server.start()
        try:
            asyncio.run(migrate(uri))
            since = time.monotonic()
            world = World(uri, Path(folder), "cafe")
            print(f"{time.monotonic() - since:.1f} s until all serve")
            since = time.monotonic()
            seed = options.seed
            try:
                while world.calls["all"] < options.calls:
                    stop = STOPS[(seed - options.seed) % len(STOPS)]
                    examples = 10 if stop is None else 2
                    print(
                        f"{world.calls['all']} calls, {time.monotonic() - since:.0f} s; seed {seed}",
                        flush=True,
                    )
                    check(
                        world,
                        examples=examples,
                        seed=seed,
                        steps=options.steps,
                        stop=stop,
                        shrink=options.shrink,
                    )
                    seed += 1
            except Exception:
                # What was found is told again, and again; the shortest that still fails comes last.
                error = Calls.found[-1 if options.shrink else 0]
                print(
                    f"{len(Calls.found)} failures. {type(error).__name__}: {error}",
                    *error.__notes__,
                    sep="\n",
                )
                sys.exit(1)
            finally:
                print(f"{time.monotonic() - since:.0f} s", world.figures())
                print(dict(world.statuses.most_common()), dict(world.calls.most_common()))
                world.close()
            print("Nothing of another's came back, and nothing of another's was changed.")
        finally:
            server.release()
            server.wait_stopped(10)


if __name__ == "__main__":
    main()
