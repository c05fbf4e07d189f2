"""The demo: a run goes on in another process, and its client never notices."""
