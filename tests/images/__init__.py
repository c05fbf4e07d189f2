"""Both images, really built and run, without a Docker engine: `python -m tests.images`."""
