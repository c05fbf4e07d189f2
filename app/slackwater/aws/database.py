"""The conninfo that the settings name."""

from __future__ import annotations

from slackwater.aws.secrets import SecretConninfo
from slackwater.aws.tokens import TokenConninfo
from slackwater.postgres.conninfo import Conninfo
from slackwater.settings import Settings, has_password


def conninfo_of(settings: Settings, uri: str | None = None) -> Conninfo | None:
    """How to log in to `uri`, by default the settings' database; None if that is the embedded server.

    A URI with a password of its own (the one for migrations may have one) is complete as it is.
    """
    uri = uri or settings.database_uri
    if uri is not None and has_password(uri):
        return uri
    if settings.database_secret_arn is not None:
        return SecretConninfo(settings.database_secret_arn, uri)
    if settings.database_iam and uri is not None:
        return TokenConninfo(uri)
    return uri
