"""Whom an address stands for."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

UNKNOWN = "unknown"


def network_of(address: str | None) -> str:
    """The address itself, or of IPv6 its network: whoever has one has all its addresses."""
    try:
        parsed = ip_address(address.partition("%")[0]) if address else None
    except ValueError:
        parsed = None
    if parsed is None:
        return UNKNOWN
    if isinstance(parsed, IPv6Address):
        if (mapped := parsed.ipv4_mapped) is not None:
            return str(mapped)
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)
