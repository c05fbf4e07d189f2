"""A model of runs: whatever happens in whatever order, what DESIGN promises of them holds.

A Hypothesis state machine drives real processes (a `Runtime` each) over the real SQL: several threads, owners and
processes; admissions, claims, supersteps, ends and hand-overs whose answers are lost and that are sent again much later,
renewals, leases that expire, sweeps, cancels, rollbacks, deletions, holds, and failovers that forget. After each step the
rows are looked at. `python -m tests.model --examples 1000` runs it for longer than the tests do.
"""
