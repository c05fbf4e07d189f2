"""Agents that owners make: a name, and what a graph is told that runs by that name. And what owners say of themselves."""
