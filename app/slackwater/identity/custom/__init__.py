"""Custom authentication: the `langgraph_sdk.Auth` object that `auth` in `langgraph.json` names.

Who calls is what its `authenticate` says; what the caller may do is what its `on` handlers say. A project without `auth`
imports nothing of it but the names.
"""

from __future__ import annotations
