"""Real processes, stopped in the middle of runs in every way there is, and what must hold afterwards."""
