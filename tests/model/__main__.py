"""`python -m tests.model --examples 1000 --seed 7`: the model for longer, on a throwaway server; shrinks what it finds.

`--fault A2` puts a fault back first, and fails if the model does not find it.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from slackwater.postgres.embedded import EmbeddedPostgres
from slackwater.postgres.schema import migrate
from tests.model.faults import FAULTS, Fault
from tests.model.machine import Runs, check
from tests.model.world import World


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--steps", type=int, default=30, help="what happens in one example, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", choices=list(FAULTS), help="put this back, and look for it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slackwater-model-") as folder:
        server = EmbeddedPostgres(Path(folder), throwaway=True)
        uri = server.start()
        try:
            asyncio.run(migrate(uri))
            fault = FAULTS[options.fault] if options.fault else None
            world = World(uri, processes=fault.processes if fault else 2)
            since = time.monotonic()
            try:
                said = search(world, options, fault)
            finally:
                world.close()
            print(f"{time.monotonic() - since:.0f} s: {said}")
        finally:
            server.release()
            server.wait_stopped(10)


def search(world: World, options: argparse.Namespace, fault: Fault | None) -> str:
    """What it has found, as a sentence. Raises what does not hold, or if a fault that is there is not found."""
    if fault is None:
        check(world, examples=options.examples, steps=options.steps, seed=options.seed, shrink=True)
        return f"{options.examples} examples, everything holds"
    fault.put_back(world, setattr)
    # What a fault has left behind can make the same example come out otherwise, which Hypothesis reports in its own way.
    with suppress(BaseException):
        check(world, examples=options.examples, steps=options.steps, seed=options.seed, only=fault.only)
    if not Runs.found:
        raise SystemExit(f"{options.examples} examples, and nobody noticed {options.fault}")
    return f"{options.fault} is found: {Runs.found[0].args[0][0]}"


if __name__ == "__main__":
    main()
