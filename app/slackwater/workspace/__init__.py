"""What is served below `/api` beside the LangGraph API: files, messages, usage, feedback, models, suggestions.

It is there with SLACKWATER_GATEWAY=true.
"""
