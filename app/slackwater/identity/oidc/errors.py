"""What goes wrong with a login by a provider."""

from __future__ import annotations

from slackwater.errors import ApiError, BadRequest, Conflict, Forbidden, NotFound, Unauthorized


class ProviderNotFound(NotFound):
    """There is no such login provider: GET /api/v1/auth/setup-status names them."""

    code = "provider_not_found"


class ForeignNext(BadRequest):
    """next must be a path of this server, such as /workspace."""

    code = "invalid_next"


class LoginGone(BadRequest):
    """This login was not begun in this browser within the last ten minutes, or has come back before: log in again."""

    code = "login_expired"


class ProviderRefused(Forbidden):
    """The provider has not logged you in: try again, or choose another account there."""

    code = "provider_refused"

    def __init__(self, error: str | None = None) -> None:
        """`error`: what the provider calls it."""
        super().__init__(
            None if error is None else f"The provider has not logged you in ({error}): try again."
        )


class IdTokenRefused(Unauthorized):
    """What the provider says of you cannot be trusted; the server's log says why."""

    code = "invalid_id_token"

    def __init__(self, problem: str = "") -> None:
        """`problem`: for the log."""
        super().__init__()
        self.problem = problem


class EmailNotVerified(Forbidden):
    """The provider does not vouch for your e-mail address: verify it there, and log in again."""

    code = "email_not_verified"


class ForeignDomain(Forbidden):
    """Nobody with an e-mail address of this domain may log in."""

    code = "email_domain_not_allowed"


class IdentityTaken(Conflict):
    """This login belongs to another account: log in with it, or choose another one at the provider."""

    code = "identity_taken"


class ProviderUnavailable(ApiError):
    """The provider cannot be reached, or does not do as expected: try again; the server's log says why."""

    status = 502
    code = "provider_unavailable"
