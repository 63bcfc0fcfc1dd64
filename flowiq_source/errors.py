"""What can go wrong between a setting and a page of rows.

FlowiqError
├── ConfigurationError          a setting is missing or cannot be right
│   ├── CredentialsError        401, 403: token, or token and tenant
│   └── UnknownOrganisation     404 on the tenant
├── NotFound                    404 on a contact or a conversation
├── BadRequest                  any other 4xx
├── Busy                        another process syncs with the same pipeline
├── DestinationError            the warehouse refuses, or cannot be reached
├── Inconsistent                pages that contradict each other or their own count
└── Retryable                   worth another try
    ├── RateLimited             429
    ├── ServerError             5xx, 408, and `success: false` with 200
    ├── Unreachable             no complete answer
    └── NotFlowiq               an answer that the documentation does not know

No message holds a token, a phone number, a name or an answer's body: the text ends in logs.
"""


class FlowiqError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_status = 1


class ConfigurationError(FlowiqError):
    """A setting is missing or cannot be right; trying again will not help."""

    exit_status = 2


class CredentialsError(ConfigurationError):
    """The API refuses the token, or the token does not belong to the tenant."""


class UnknownOrganisation(ConfigurationError):
    """The API knows no organisation with the configured tenant id."""


class NotFound(FlowiqError):
    """The API has no such contact or conversation."""


class BadRequest(FlowiqError):
    """The API refuses the request itself."""


class Inconsistent(FlowiqError):
    """The pages contradict each other or their own count."""


class Busy(FlowiqError):
    """Another process syncs with the same pipeline."""


class DestinationError(FlowiqError):
    """The warehouse refuses, or cannot be reached; the text holds no row's values."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class Retryable(FlowiqError):
    """Worth another try; `wait_s` is how long the server asked to wait, if it did."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class RateLimited(Retryable):
    """Too many requests in this minute."""


class ServerError(Retryable):
    """The API failed on its own side."""


class Unreachable(Retryable):
    """No complete answer came back."""


class NotFlowiq(Retryable):
    """The answer is not one that the FlowIQ documentation describes."""
