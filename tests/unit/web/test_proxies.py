"""What a request's headers say of its way counts if its peer is trusted, and never otherwise."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slackwater.identity.loopback import names_loopback
from slackwater.web.proxies import Arrival, Networks, arrival_of, believe
from tests.support.properties import untimed

TRUSTED: Networks = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), ip_network("192.0.2.7"))
PROXY = Arrival(("10.1.2.3", 40_000), tls=False)


def raw(**headers: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]


def told(*, peer: Arrival = PROXY, **headers: str) -> Arrival:
    return arrival_of(peer, raw(host="inner:2024", **headers), TRUSTED)


# A trusted peer


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"x_real_ip": "203.0.113.9"}, "203.0.113.9"),
        ({"x_real_ip": " 2001:db8:1::9 "}, "2001:db8:1::9"),
        ({"x_real_ip": "::ffff:203.0.113.9"}, "203.0.113.9"),
        ({}, "10.1.2.3"),
        ({"x_forwarded_for": "203.0.113.9"}, "10.1.2.3"),
        ({"forwarded": "for=203.0.113.9"}, "10.1.2.3"),
        ({"x_forwarded_for": "198.51.100.1", "x_real_ip": "203.0.113.9"}, "203.0.113.9"),
        ({"x_real_ip": "203.0.113.9, 198.51.100.1"}, "10.1.2.3"),
        ({"x_real_ip": "203.0.113.9:4000"}, "10.1.2.3"),
        ({"x_real_ip": "localhost"}, "10.1.2.3"),
        ({"x_real_ip": ""}, "10.1.2.3"),
    ],
)
def test_the_address_is_the_one_in_x_real_ip(headers: dict[str, str], address: str) -> None:
    """A10: X-Forwarded-For is never used."""
    assert (told(**headers).client or ("",))[0] == address


def test_two_addresses_are_none() -> None:
    """A proxy that adds the header without taking out the client's."""
    headers = [*raw(x_real_ip="198.51.100.1"), *raw(X_Real_IP="203.0.113.9")]
    assert arrival_of(PROXY, headers, TRUSTED).client == PROXY.client


@pytest.mark.parametrize(
    ("headers", "tls"),
    [
        ({}, False),
        ({"x_forwarded_proto": "https"}, True),
        ({"x_forwarded_proto": " HTTPS , http"}, True),
        ({"x_forwarded_proto": "http,https"}, False),
        ({"x_forwarded_proto": "wss"}, True),
        ({"x_forwarded_proto": "gopher"}, False),
        ({"forwarded": "for=1.2.3.4;proto=https"}, True),
        ({"forwarded": 'for="[2001:db8::1]:4711"; Proto="https" ;by=10.0.0.1, proto=http'}, True),
        ({"forwarded": "proto=http", "x_forwarded_proto": "https"}, False),
        ({"forwarded": "for=1.2.3.4", "x_forwarded_proto": "https"}, True),
        ({"forwarded": "for=1.2.3.4, proto=https"}, False),
        ({"forwarded": 'for="unclosed;proto=https'}, False),
    ],
)
def test_the_scheme(headers: dict[str, str], tls: bool) -> None:
    assert told(**headers).tls is tls


def test_a_proxy_may_also_say_that_it_was_not_tls() -> None:
    peer = Arrival(PROXY.client, tls=True)
    assert told(peer=peer).tls is True
    assert told(peer=peer, x_forwarded_proto="http").tls is False


@pytest.mark.parametrize(
    ("headers", "host"),
    [
        ({}, "inner:2024"),
        ({"x_forwarded_host": "app.example"}, "app.example"),
        ({"x_forwarded_host": "app.example:8443, other"}, "app.example:8443"),
        ({"x_forwarded_host": "[2001:db8::1]:8443"}, "[2001:db8::1]:8443"),
        ({"x_forwarded_host": "app.example", "x_forwarded_port": "8443"}, "app.example:8443"),
        ({"x_forwarded_host": "app.example:1", "x_forwarded_port": "8443"}, "app.example:1"),
        ({"x_forwarded_host": "app.example", "x_forwarded_port": "443"}, "app.example"),
        ({"x_forwarded_host": "app.example", "x_forwarded_port": "80"}, "app.example"),
        ({"x_forwarded_host": "app.example", "x_forwarded_port": "99999"}, "app.example"),
        ({"x_forwarded_host": "app.example", "x_forwarded_port": "8443@evil"}, "app.example"),
        ({"forwarded": 'host="app.example:8443"', "x_forwarded_host": "other"}, "app.example:8443"),
        ({"forwarded": "for=1.2.3.4", "x_forwarded_host": "app.example"}, "app.example"),
        *(
            ({"x_forwarded_host": wrong}, None)
            for wrong in (
                "user@app.example",
                "app.example/path",
                "app.example?query",
                "app.example#x",
                "app example",
                "app.example:0",
                "app.example:65536",
                "app.example:x",
                "https://app.example",
                "[::1",
                "\u00e9.example",
            )
        ),
        ({"forwarded": 'host="user@app.example"'}, None),
    ],
)
def test_the_host(headers: dict[str, str], host: str | None) -> None:
    assert told(**headers).host == host


def test_a_host_without_its_port_gets_the_forwarded_one() -> None:
    headers = raw(host="app.example", x_forwarded_port="2026")
    assert arrival_of(PROXY, headers, TRUSTED).host == "app.example:2026"


@pytest.mark.parametrize(
    "peer", ["10.255.0.1", "::ffff:10.0.0.1", "2001:db8:5::1", "2001:db8::1%eth0", "192.0.2.7"]
)
def test_who_is_trusted(peer: str) -> None:
    found = told(peer=Arrival((peer, 1), tls=False), x_real_ip="203.0.113.9", x_forwarded_proto="https")
    assert found == Arrival(("203.0.113.9", 0), tls=True, host="inner:2024")


# Any other


ANYBODY = st.one_of(
    st.ip_addresses().map(str).filter(lambda address: not any_trusts(address)),
    st.sampled_from(["", "unix", "11.0.0.1", "192.0.2.8", "127.0.0.1", "::1", "::ffff:127.0.0.1"]),
)
NAMES = st.one_of(
    st.sampled_from(
        [
            "Forwarded",
            "x-real-ip",
            "X-Forwarded-Proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-for",
        ]
    ),
    st.sampled_from(
        ["host", "via", "x-forwarded-scheme", "x-forwarded-ssl", "front-end-https", "cf-connecting-ip"]
    ),
    st.text(max_size=20),
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "https",
            "203.0.113.9",
            "127.0.0.1",
            "evil.example",
            "localhost:3000",
            "8443",
            "for=127.0.0.1;proto=https;host=evil.example",
        ]
    ),
    st.text(st.characters(max_codepoint=255), max_size=40),
)
HEADERS = st.lists(
    st.tuples(
        NAMES.map(lambda name: name.encode("latin-1", "replace")),
        VALUES.map(lambda value: value.encode("latin-1")),
    ),
    max_size=8,
)


def any_trusts(address: str) -> bool:
    return told(peer=Arrival((address, 1), tls=False), x_real_ip="203.0.113.9").client == ("203.0.113.9", 0)


@untimed
@given(ANYBODY, st.booleans(), HEADERS, st.sampled_from([(), TRUSTED]))
def test_nothing_that_anybody_else_says_changes_anything(
    address: str, tls: bool, headers: list[tuple[bytes, bytes]], trusted: Networks
) -> None:
    """A10, and defect 8 of 6.2. One thing is left: a page's server on this machine says by which name of this machine it was called."""
    peer = Arrival((address, 1), tls)
    found = arrival_of(peer, headers, trusted)
    assert (found.client, found.tls) == (peer.client, peer.tls)
    if found.host is not None:
        assert address in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
        assert names_loopback(found.host)


@untimed
@given(HEADERS)
def test_whatever_a_trusted_proxy_says_is_understood_or_ignored(headers: list[tuple[bytes, bytes]]) -> None:
    found = arrival_of(PROXY, headers, TRUSTED)
    assert found.host is None or not set(found.host) & set("@/?#, ")


@pytest.mark.parametrize(
    ("host", "believed"),
    [
        ("localhost:3000", "localhost:3000"),
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("[::1]:3000", "[::1]:3000"),
        ("evil.example", None),
        ("localhost.evil.example", None),
        ("192.168.1.5:3000", None),
    ],
)
def test_a_development_server_on_this_machine(host: str, believed: str | None) -> None:
    peer = Arrival(("127.0.0.1", 1), tls=False)
    assert arrival_of(peer, raw(host="127.0.0.1:2024", x_forwarded_host=host), ()).host == believed


# In the scope


class Transport:
    def __init__(self, **known: Any) -> None:
        self.get_extra_info = known.get


class Connection:
    """As uvicorn's: what its own middleware has replaced, its transport still knows."""

    def __init__(self, **known: Any) -> None:
        self.transport = Transport(**known)

    async def receive(self) -> dict[str, Any]:
        raise AssertionError


async def receive() -> dict[str, Any]:
    raise AssertionError


def test_what_the_server_has_believed_is_taken_back() -> None:
    scope = {
        "type": "http",
        "client": ("127.0.0.1", 0),
        "scheme": "https",
        "headers": raw(host="a.example", x_forwarded_for="127.0.0.1", x_forwarded_proto="https"),
    }
    believe(scope, Connection(peername=("203.0.113.9", 4000)).receive)
    assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 4000), "http")


def test_a_socket_without_addresses_has_no_client() -> None:
    scope = {"type": "websocket", "client": ("127.0.0.1", 0), "scheme": "wss", "headers": []}
    believe(scope, Connection(peername="").receive)
    assert (scope["client"], scope["scheme"]) == (None, "ws")


def test_of_another_server_the_word_is_taken() -> None:
    scope = {"type": "websocket", "client": ("203.0.113.9", 1), "scheme": "wss", "headers": []}
    believe(scope, receive)
    assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 1), "wss")
