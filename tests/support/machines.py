"""State machines of Hypothesis, tried by a seed instead of a database of examples."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import seed as with_seed
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def try_out(
    machine: type[RuleBasedStateMachine],
    *,
    examples: int,
    steps: int,
    seed: int,
    shrink: bool,
    verbosity: Verbosity = Verbosity.normal,
) -> None:
    """Try so many examples, the same ones each time for one seed. Raises what does not hold."""
    run_state_machine_as_test(
        with_seed(seed)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=False,
            verbosity=verbosity,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        ),
    )
