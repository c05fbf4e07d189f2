"""Schemathesis against a real server: it does what its OpenAPI document says, whatever it is sent."""
