"""The demo: a run continues in another process, and its client never notices."""
