"""The OpenAPI document: FastAPI knows routes, parameters and bodies; each resource's `openapi.py` describes the responses.

It is built on the first request for it, and its parts are imported only then.
"""
