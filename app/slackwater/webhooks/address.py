"""Which network addresses a webhook may reach.

A URL comes from whoever may start a run, and this process sees networks that the caller does not.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from slackwater.kit.threads import Threads

Address = IPv4Address | IPv6Address

METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google Cloud, and most others
        "169.254.170.2",  # the credentials of a container on AWS
        "169.254.170.23",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's platform
        "192.0.0.192",  # Oracle
    )
)
"""Services that hand out the credentials of a machine: refused whatever the project says."""

INTERNAL_NAMES = (
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "kubernetes",
    "kubernetes.default",
)
INTERNAL_SUFFIXES = (".svc", ".cluster.local", ".metadata.google.internal")
"""Names inside a cloud or a cluster."""

_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_SHARED = ip_network("100.64.0.0/10")

MAX_LOOKUPS = 16
_lookups = Threads("webhook-lookup", MAX_LOOKUPS, MAX_LOOKUPS)
"""Not asyncio's: a name that nobody answers for would keep this process from connecting to its database."""


class AddressRefused(Exception):
    """An address that a webhook may not reach; the message says which and why."""


def literal(host: str) -> Address | None:
    """The address that `host` is, also in the old forms that resolvers take (`127.1`, `0x7f000001`, `2130706433`)."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host)) if host and host[0].isdigit() else None
    except OSError:
        return None


def reason(address: Address, *, loopback: bool, private: bool) -> str | None:
    """Why an address is refused, or None. `loopback` and `private`: those are allowed."""
    address = _inner(address)
    if address in METADATA or address.is_link_local:
        return "link-local or cloud metadata"
    if address.is_loopback or address.is_unspecified:
        return None if loopback else "loopback"
    if address.is_multicast or (
        isinstance(address, IPv4Address) and address == IPv4Address("255.255.255.255")
    ):
        return "multicast"
    if not address.is_global or address in _SHARED:
        return None if private else "private"
    return None


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner:
            return inner
        if any(address in network for network in _NAT64):
            return IPv4Address(int(address) & 0xFFFF_FFFF)
        # The deprecated `::a.b.c.d`; `::` and `::1` mean something else.
        if 1 < int(address) <= 0xFFFF_FFFF:
            return IPv4Address(int(address))
    return address


def internal_name(host: str) -> bool:
    """Whether a name belongs to a cloud's or a cluster's inside."""
    name = host.lower().rstrip(".")
    return name in INTERNAL_NAMES or name.endswith(INTERNAL_SUFFIXES)


async def resolve(host: str, port: int, *, loopback: bool, private: bool) -> list[str]:
    """The addresses to connect to, one after the other. All that the name stands for must be allowed: Refused otherwise.

    The connection is made to one of these very addresses: a name that is asked again may answer something else.
    Raises OSError when the name does not resolve.
    """
    known = literal(host)
    if known is not None:
        found: list[Address] = [known]
    else:
        if internal_name(host):
            raise AddressRefused(f"{host} is a name inside a cloud or cluster")
        infos = await lookup(host, port)
        found = [ip_address(str(info[4][0]).partition("%")[0]) for info in infos]
    for address in found:
        if why := reason(address, loopback=loopback, private=private):
            raise AddressRefused(f"{host} is {address}, which is {why}")
    if not found:
        raise OSError(f"{host} has no address")
    # Many networks have no way out over IPv6, and names that have such an address all the same.
    return [str(address) for address in sorted(dict.fromkeys(found), key=lambda address: address.version)]


async def lookup(host: str, port: int) -> list[Any]:
    """What `getaddrinfo` says. Raises OSError."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    return await asyncio.wrap_future(_lookups.submit(None, ask))
