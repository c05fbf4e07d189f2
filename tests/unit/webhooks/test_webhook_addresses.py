"""Which addresses a webhook may reach."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address
from typing import Any

import pytest

from slackwater.webhooks import address
from slackwater.webhooks.address import AddressRefused


@pytest.mark.parametrize(
    "text",
    [
        "169.254.169.254",
        "169.254.1.1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
def test_some_addresses_are_nobodys_whatever_the_project_says(text: str) -> None:
    assert address.reason(ip_address(text), loopback=True, private=True)


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)
def test_loopback_is_a_matter_of_policy(text: str) -> None:
    assert address.reason(ip_address(text), loopback=False, private=True) == "loopback"
    assert address.reason(ip_address(text), loopback=True, private=False) is None


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1", "240.0.0.1"]
)
def test_private_addresses_are_a_matter_of_policy(text: str) -> None:
    assert address.reason(ip_address(text), loopback=True, private=False) == "private"
    assert address.reason(ip_address(text), loopback=False, private=True) is None


@pytest.mark.parametrize("text", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_reached(text: str) -> None:
    assert address.reason(ip_address(text), loopback=False, private=False) is None


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
def test_old_spellings_of_an_address_are_read_as_resolvers_do(host: str) -> None:
    assert str(address.literal(host)) == "127.0.0.1"


async def test_a_name_of_which_any_address_is_refused_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    ask = socket.getaddrinfo

    def getaddrinfo(*args: Any, **named: Any) -> Any:
        threads.append(threading.current_thread().name)
        return ask(*args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(AddressRefused, match="loopback"):
        await address.resolve("localhost", 80, loopback=False, private=False)
    # In a thread of its own: not where this process asks for its database.
    assert [name.rpartition("-")[0] for name in threads] == ["webhook-lookup"]
    found = await address.resolve("localhost", 80, loopback=True, private=False)
    assert found in (["127.0.0.1"], ["127.0.0.1", "::1"])
    with pytest.raises(AddressRefused, match="inside a cloud"):
        await address.resolve("Metadata.Google.Internal.", 80, loopback=True, private=True)
