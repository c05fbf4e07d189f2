"""What stands in front of the API, as `http` in `langgraph.json` arranges it."""
