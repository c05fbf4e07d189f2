"""Addresses, and whom they stand for."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

UNKNOWN = "unknown"


def plain(address: str) -> IPv4Address | IPv6Address:
    """An address without its zone; one of IPv4 as such, since a listener for both sees `::ffff:10.0.0.1`. Raises ValueError."""
    parsed = ip_address(address.partition("%")[0])
    return (parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None) or parsed


def network_of(address: str | None) -> str:
    """The address itself, or of IPv6 its network: whoever has one has all its addresses."""
    try:
        parsed = plain(address) if address else None
    except ValueError:
        parsed = None
    if parsed is None:
        return UNKNOWN
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)
