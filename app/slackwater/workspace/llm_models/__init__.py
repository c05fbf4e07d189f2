"""The models that the project offers: `gateway.models` in `langgraph.json`."""
