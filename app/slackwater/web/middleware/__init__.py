"""The middleware in front of the API, configured by `http` in `langgraph.json`."""
