"""The user that a project's own `authenticate` has returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import orjson

Fields = dict[str, Any]

USER_OWNER = "user:"
"""Before the identity: no key's name and no reserved owner has a colon, and an authorizer's kind is another word."""

MAX_IDENTITY = 512
"""Characters. The owner of rows is made of it, and indexes hold no long keys."""

_FIELDS = ("identity", "display_name", "is_authenticated", "permissions")


class UserObject(dict[str, Any]):
    """An object among a user's fields, whose own fields are attributes, too: `user.org.name`."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(f"{name!r} is none of its fields") from None
        return UserObject(value) if type(value) is dict else value


class User(dict[str, Any]):
    """Every field that `authenticate` gave the user, as keys and as attributes: a `langgraph_sdk` `BaseUser`.

    A node gets what was stored with its run, which is JSON. A handler also gets the other attributes of an object that
    `authenticate` has returned.
    """

    _source: object = None

    @property
    def identity(self) -> str:
        return str(self["identity"])

    @property
    def display_name(self) -> str:
        return str(self["display_name"])

    @property
    def is_authenticated(self) -> bool:
        return bool(self["is_authenticated"])

    @property
    def permissions(self) -> Sequence[str]:
        permissions: Sequence[str] = self["permissions"]
        return permissions

    def __getattr__(self, name: str) -> Any:
        if name in self:
            value = self[name]
            return UserObject(value) if type(value) is dict else value
        if name.startswith("__") or self._source is None:
            raise AttributeError(f"the user has no {name!r}")
        return getattr(self._source, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> User:
        return User(deepcopy(dict(self), memo))

    def __reduce__(self) -> tuple[type[User], tuple[Fields]]:
        return User, (dict(self),)

    def dict(self) -> Fields:
        """All fields, for code that was written for the official server's user."""
        return {**self}

    def stored(self) -> Fields:
        """All fields as JSON, for a row."""
        fields: Fields = orjson.loads(orjson.dumps({**self}, default=str, option=orjson.OPT_NON_STR_KEYS))
        return fields


def user_of(answer: object) -> User:
    """What `authenticate` has returned, as a user: a string, a mapping, an object, or `(permissions, user)`.

    Raises ValueError for what is no user.
    """
    permissions: object = None
    if isinstance(answer, tuple):
        if len(answer) != 2:
            raise ValueError(
                f"authenticate returned a tuple of {len(answer)}: return the user, or (permissions, user)"
            )
        permissions, answer = answer
    fields = _fields_of(answer)
    identity = fields.get("identity")
    if not isinstance(identity, str) or not 0 < len(identity) <= MAX_IDENTITY or "\0" in identity:
        raise ValueError(
            f"authenticate must return a user whose identity is a string of 1 to {MAX_IDENTITY} characters, not "
            f"{type(answer).__name__}"
        )
    if permissions is None:
        permissions = fields.get("permissions") or ()
    if isinstance(permissions, str) or not isinstance(permissions, Sequence | set | frozenset):
        raise ValueError("a user's permissions must be a list of strings")
    user = User(
        {
            "display_name": identity,
            "is_authenticated": True,
            **fields,
            "permissions": [*map(str, permissions)],
        }
    )
    if not isinstance(answer, str | Mapping):
        user._source = answer
    return user


def _fields_of(answer: object) -> Mapping[str, Any]:
    if isinstance(answer, str):
        return {"identity": answer}
    if isinstance(answer, Mapping):
        return {**answer}
    own: Mapping[str, Any] = {}
    for name in ("model_dump", "dict"):
        if callable(method := getattr(answer, name, None)):
            found = method()
            own = found if isinstance(found, Mapping) else {}
            break
    else:
        own = {name: value for name, value in getattr(answer, "__dict__", {}).items() if name[:1] != "_"}
    return {**own, **{name: getattr(answer, name) for name in _FIELDS if hasattr(answer, name)}}
