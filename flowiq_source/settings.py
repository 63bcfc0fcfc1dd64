"""What a user sets, checked before anything is sent."""

import math
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from flowiq_source.errors import ConfigurationError

PRODUCTION_URL = "https://api.flowiq.live"

PAGE_SIZE = 100
"""Rows per page: the most that the API allows, because requests are what a run costs."""

REQUESTS_PER_MINUTE = 100
"""What the API allows an account."""


def pages_of(rows: int) -> int:
    """Requests that so many rows cost; an empty listing is a page too."""
    return max(1, -(-rows // PAGE_SIZE))


_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Settings:
    """Where the API is and who asks.

    Raises:
        ConfigurationError: a value is missing or cannot be right.
    """

    bearer_token: str = field(repr=False)
    tenant_id: str | None = None
    base_url: str = PRODUCTION_URL
    requests_per_minute: float = REQUESTS_PER_MINUTE
    rate_limit_share: float = 1.0

    def __post_init__(self) -> None:
        _check_token(self.bearer_token)
        _check_url(self.base_url)
        if not 1 <= self.requests_per_minute < math.inf:
            raise ConfigurationError("sources.flowiq.requests_per_minute must be 1 or more")
        if not 0 < self.rate_limit_share <= 1:
            raise ConfigurationError(
                "sources.flowiq.rate_limit_share must be above 0 and at most 1"
            )

    @property
    def endpoint(self) -> str:
        """The one URL that the API answers on."""
        return self.base_url.rstrip("/").removesuffix("/conversations") + "/conversations"

    @property
    def tenant_key(self) -> str:
        """The `tenant_id` of every row; empty when none is configured and the token decides."""
        return self.tenant_id or ""


def _check_token(token: str) -> None:
    # A header cannot carry white space or control characters, and quoting the value would leak it.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            "sources.flowiq.bearer_token is empty or holds characters that no token has: "
            "copy it again from FlowIQ, without quotes, spaces or the word Bearer"
        )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.username or parts.query or parts.fragment:
        raise ConfigurationError(
            "sources.flowiq.base_url is not a plain URL such as https://host: "
            f"the production value is {PRODUCTION_URL}"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise ConfigurationError(
            "sources.flowiq.base_url must start with https:// (plain http is for loopback alone): "
            "the token would travel in the clear"
        )
