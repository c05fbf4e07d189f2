"""What may be said of a login provider, and where a login may lead to."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.identity.oidc.local_path import is_local
from slackwater.identity.oidc.provider import Provider, is_safe_url, providers_of

WHOLE = {"name": "corp", "issuer": "https://id.example.com/realms/a", "client_id": "slackwater"}


def test_a_provider_has_defaults_that_let_nobody_new_in() -> None:
    provider = Provider.of({"issuer": "https://id.example.com", "client_id": "slackwater"})

    assert (provider.name, provider.provision, provider.allowed_domains) == ("oidc", False, frozenset())
    assert provider.client_secret is None


def test_a_secret_is_not_shown() -> None:
    assert "hunter2" not in repr(Provider.of({**WHOLE, "client_secret": "hunter2"}))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"issuer": "http://id.example.com"}, "https://"),
        ({"issuer": "https://"}, "https://"),
        ({"issuer": "https://id.example.com?x=1"}, "https://"),
        ({"issuer": "https://me:pw@id.example.com"}, "https://"),
        ({"issuer": None}, "https://"),
        ({"client_id": ""}, "client_id"),
        ({"client_id": 7}, "client_id"),
        ({"client_secret": "größer"}, "client_secret"),
        ({"name": "a/b"}, "name"),
        ({"name": "UPPER"}, "name"),
        ({"allowed_domains": "example.com"}, "list"),
        ({"allowed_domains": ["exämple.com"]}, "xn--"),
        ({"allowed_domains": ["\u212aelvin.com"]}, "xn--"),
        ({"provision": "yes"}, "provision"),
        ({"role": "admin"}, "role"),
    ],
)
def test_what_is_wrong_is_said(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Provider.of({**WHOLE, **wrong})


def test_several_are_a_json_list() -> None:
    one, other = providers_of(
        '[{"name": "a", "issuer": "https://a.example", "client_id": "x", "allowed_domains": ["@Example.COM"]},'
        ' {"name": "b", "issuer": "https://b.example", "client_id": "y", "provision": true}]'
    )
    assert (one.allowed_domains, other.provision) == ({"example.com"}, True)
    for text in ("{}", "[1]", "no"):
        with pytest.raises(ValueError, match="JSON list"):
            providers_of(text)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://id.example.com/authorize", True),
        ("http://127.0.0.1:8080/authorize", True),
        ("http://localhost/authorize", True),
        ("http://[::1]:9/x", True),
        ("http://id.example.com/authorize", False),
        ("http://127.0.0.1.evil.example/", False),
        ("http://localhost@evil.example/", False),
        ("https://evil.example@id.example.com/", False),
        ("https://id.example.com:port/", False),
        ("ftp://127.0.0.1/", False),
        ("https:///x", False),
        ("https://a b/", False),
        ("javascript:alert(1)", False),
    ],
)
def test_requests_go_over_tls_or_to_this_machine(url: str, safe: bool) -> None:
    assert is_safe_url(url) is safe


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/workspace",
        "/workspace/chats/1?tab=a&u=https://x.example//y#part",
        "/a%20b",
        "/caf%C3%A9",
        "/100%25",
        "/a:b@c",
        "/..a/b..",
    ],
)
def test_a_login_leads_to_a_path_of_this_server(path: str) -> None:
    assert is_local(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "workspace",
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/%2Fevil.example",
        "/%2f%2fevil.example",
        "/%5Cevil.example",
        "/%255Cevil.example",
        "/%25252Fevil.example",
        "/%252525252525252Fevil.example",
        "/.//evil.example",
        "/..//evil.example",
        "/a/..//evil.example",
        "/%2e%2e/%2Fevil.example",
        "/a//b",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/%09/evil.example",
        "/%0d%0aSet-Cookie:a=b",
        "/\x00",
        "javascript:alert(1)",
        "/x?\r\nLocation: https://evil.example",
        "/x#\\",
        "?next=//evil.example",
        "/" + "a" * 2000,
    ],
)
def test_a_login_leads_nowhere_else(path: str) -> None:
    assert not is_local(path)
