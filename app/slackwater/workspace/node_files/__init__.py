"""Nodes reach files: a local folder of a run, which is a mirror of its thread's files."""
