"""What goes wrong with accounts. Those with a `code` are told apart by it; the others are shown as they are."""

from __future__ import annotations

import math

from slackwater.errors import ApiError, Conflict, Forbidden, InvalidField, Unauthorized


class WrongCredentials(Unauthorized):
    """Incorrect email or password."""

    code = "invalid_credentials"


class WrongPassword(ApiError):
    """Current password is incorrect."""

    # 400, as a page that is answered 401 sends its user to the login.
    status = 400
    code = "invalid_credentials"


class LockedOut(ApiError):
    """Too many login attempts. Try again later."""

    status = 429
    headers = {"Retry-After": "300"}  # noqa: RUF012

    def __init__(self, seconds: float = 300.0) -> None:
        super().__init__()
        self.headers = {"Retry-After": str(max(1, math.ceil(seconds)))}


class TooManyRegistrations(LockedOut):
    """Too many registrations from this address. Try again later."""


class EmailTaken(ApiError):
    """Email already registered."""

    status = 400
    code = "email_already_exists"


class RegistrationClosed(Forbidden):
    """Registration is closed: ask an administrator for an account."""


class AccountDisabled(Forbidden):
    """This account is disabled: ask an administrator."""


class AlreadySetUp(Conflict):
    """The system is already set up: log in."""

    code = "system_already_initialized"


class LastAdministrator(Conflict):
    """There has to be an administrator who may log in: make somebody else one first."""


class SetupTokenNeeded(Forbidden):
    """The first administrator needs the link that the server's log shows, or `slackwater users setup` prints: open it first."""


class InvalidEmail(InvalidField):
    """Enter an email address such as maria@example.com."""

    def __init__(self, message: str | None = None, field: str = "email") -> None:
        super().__init__(message, ("body", field))


class WeakPassword(InvalidField):
    """Choose a password of at least 8 characters that is not a common one."""

    def __init__(self, message: str | None = None, field: str = "password") -> None:
        super().__init__(message, ("body", field))


class PasswordsCrowded(ApiError):
    """Too many passwords are being checked: try again."""

    status = 503
    headers = {"Retry-After": "1"}  # noqa: RUF012
