"""The gateway dialect: threads, runs and assistants below `/api`, as the clients of DeerFlow's gateway expect them.

A translation, and no second implementation: each route turns what it is asked into a call of the services in `slackwater.api`, and what
they answer into what its clients read. What it adds to a run is in the run's row, so that any process goes on with it. All differences from
the official API are in docs/gateway.md.
"""
