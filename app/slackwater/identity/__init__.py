"""Who is calling: API keys, gateways of AWS that have checked already, and the guard of a server without keys."""

from __future__ import annotations
