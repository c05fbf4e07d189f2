from __future__ import annotations

import hashlib
import hmac

import pytest

from slackwater.identity.keys import ApiKey, find_owner, new_key

DIGEST = hashlib.sha256(b"secret").hexdigest()


def test_a_new_key_is_found_by_its_secret_only() -> None:
    secret, key = new_key("alice")

    assert find_owner([key], secret) == "alice"
    assert find_owner([key], secret + "x") is None
    assert find_owner([key], key.sha256) is None
    assert find_owner([], secret) is None


def test_secrets_are_long_and_never_the_same() -> None:
    secrets = {new_key("alice")[0] for _ in range(100)}

    assert len(secrets) == 100
    assert all(len(secret) >= 43 for secret in secrets)


def test_one_name_may_have_several_keys() -> None:
    (old, old_key), (new, new_key_) = new_key("alice"), new_key("alice")

    assert [find_owner([old_key, new_key_], secret) for secret in (old, new)] == ["alice", "alice"]


def test_keys_are_compared_in_constant_time_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it takes must not tell how much of a secret is right, nor which key it is."""
    secret, first = new_key("first")
    others = [new_key(f"other{number}")[1] for number in range(3)]
    compared = []

    def spy(left: str, right: str) -> bool:
        compared.append(left)
        return compare(left, right)

    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", spy)

    assert find_owner([first, *others], secret) == "first"
    assert compared == [key.sha256 for key in (first, *others)]


def test_a_key_is_read_as_it_is_printed() -> None:
    assert ApiKey.parse(f" ci@example.com:{DIGEST.upper()} ") == ApiKey("ci@example.com", DIGEST)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alice", "name:sha256hex"),
        ("alice:", "name:sha256hex"),
        ("alice:secret", "name:sha256hex"),
        (f":{DIGEST}", "not a valid key name"),
        (f"al ice:{DIGEST}", "not a valid key name"),
        (f"{'a' * 65}:{DIGEST}", "not a valid key name"),
        (f"system:{DIGEST}", "reserved"),
        (f"local:{DIGEST}", "reserved"),
    ],
)
def test_what_is_no_key_is_refused_with_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ApiKey.parse(text)
