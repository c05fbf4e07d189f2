"""Several owners at once: whatever each of them calls, nothing of another's comes back, and nothing of another's changes.

A Hypothesis state machine calls the whole API of real server processes, and of a function on the real emulator of AWS Lambda, in
the name of people who know each other's ids, while processes are stopped and killed. Everything that somebody writes carries their
mark; everything that comes back is searched for the marks, names and ids of others. `python -m tests.fuzz --calls 200000 --seed 7`
goes on for longer than the tests do.
"""
