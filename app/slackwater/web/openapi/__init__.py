"""The OpenAPI document: FastAPI knows routes, parameters and bodies, each resource's `openapi.py` says what is answered.

It is made when it is asked for, and what it consists of is imported then: no start and no request pays for it.
"""
