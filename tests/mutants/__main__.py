"""Applies each mutation to a copy of the tree, runs the tests meant for it, and prints what became of it."""

from __future__ import annotations

import sys

from tests.mutants.table import MUTANTS
from tests.mutants.trial import Tree, Verdict


def main(names: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in chosen}:
        sys.exit(f"There is no mutant {', '.join(sorted(unknown))}.")
    with Tree() as tree:
        # Or a test that fails anyway would seem to notice everything.
        if (sound := tree.run(sorted({test for mutant in chosen for test in mutant.tests}))) is not None:
            sys.exit(f"These tests fail without any mutation:\n{sound}")
        verdicts = []
        for mutant in chosen:
            verdict, note = tree.try_out(mutant)
            verdicts.append(verdict)
            print(f"{verdict.value:9} {mutant.name:24} {mutant.file:32} {note}", flush=True)
    print(f"\n{verdicts.count(Verdict.NOTICED)} of {len(verdicts)} noticed")
    return int(any(verdict is not Verdict.NOTICED for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
