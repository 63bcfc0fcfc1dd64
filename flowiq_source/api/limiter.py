"""When the next request may be sent: one limiter per account for the whole process.

Source: FlowIQ API reference, "Rate limits": 100 requests a minute, bursts to 150, and on every
answer `X-RateLimit-Limit`, `-Remaining` and `-Reset` (epoch seconds).

No library does this: those for clients (pyrate-limiter, limits, aiolimiter) keep a rate that they
are told, and know nothing of what an answer says, of another program, or of requests in flight.
"""

import hashlib
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from flowiq_source.api.allowance import Allowance
from flowiq_source.api.waits import LONGEST_WAIT_S, Quota, quota_of, retry_after

logger = logging.getLogger("flowiq_source")

WORTH_TELLING_S = 10.0
"""A longer wait is logged."""

LONGEST_GUESS_S = 60.0
"""How long to wait after a refusal that does not say how long: a minute brings new requests."""


class Account(Protocol):
    """The settings that decide which account it is, and how fast it may be used."""

    @property
    def endpoint(self) -> str:
        """The URL that is asked."""

    @property
    def bearer_token(self) -> str:
        """Who asks."""

    @property
    def requests_per_minute(self) -> float:
        """What the account may be used for at most."""

    @property
    def rate_limit_share(self) -> float:
        """How much of it is ours, above 0 and at most 1."""


class RateLimiter:
    """The turns of the requests; any number of threads may share it.

    `acquire` waits for a request's turn and numbers it, `note` takes over what came of it: each
    `acquire` needs one `note`. Without headers, requests go evenly, `per_minute * share` a minute;
    more at once only if headers say that more are there. `clock` says seconds, forward only.
    """

    def __init__(
        self, per_minute: float, share: float = 1.0, clock: Callable[[], float] | None = None
    ) -> None:
        self._clock = clock or time.monotonic
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._allowance = Allowance(per_minute * share, share, self._clock())
        self._users: list[weakref.ref[Account]] = []
        self._sent_at: dict[int, float] = {}
        self._held_until = self._clock()
        self._refusals = 0
        self._told_at: float | None = None

    def acquire(self, sleep: Callable[[float], object]) -> int:
        """The number of the next request, when it may be sent.

        What `sleep` raises ends the wait.
        """
        while True:
            number, wait_s = self._take()
            if number:
                return number
            sleep(wait_s)

    def note(self, number: int, status: int | None, headers: Mapping[str, str]) -> None:
        """Take over what an answer says, names in lower case; status None if none came."""
        quota, asked_s = quota_of(headers), retry_after(headers)
        with self._lock:
            now = self._clock()
            sent_at = self._sent_at.pop(number, now)
            self._allowance.answered(number, quota, now)
            after_hold = sent_at >= self._held_until
            if status == 429:
                self._refused(asked_s or quota.reset_s or 0.0, quota, now, again=after_hold)
            elif status and status < 400 and after_hold:
                self._refusals = 0
            # A good answer that says how many are left does not mean it.
            if asked_s and not (quota.left and status == 200):
                self._hold(asked_s, now)

    def pace(self) -> str:
        """How many requests may be sent in a minute, what is left, and when the next one may go."""
        with self._lock:
            now = self._clock()
            per_minute, left = self._allowance.headroom()
            wait_s = max(self._held_until - now, 0.0)
        if wait_s >= 1:
            return f"the API's limit: next request in {wait_s:.0f} s"
        known = "" if left is None else f"{left:.0f} left now, "
        return f"{known}{per_minute:.0f} requests a minute"

    def share_with(self, user: Account) -> None:
        """Keep to the bounds of these settings too, as long as somebody holds them."""
        with self._lock:
            self._users.append(weakref.ref(user))
            self._agree()

    def _take(self) -> tuple[int, float]:
        """The number of a request, or 0 and the seconds to wait."""
        with self._lock:
            if any(user() is None for user in self._users):
                self._agree()
            now = self._clock()
            wait_s = self._held_until - now
            if wait_s <= 0:
                wait_s = self._allowance.wait_s(now)
            if wait_s > 0:
                self._tell(wait_s, now)
                return 0, wait_s
            self._tell(0.0, now)
            number = next(self._numbers)
            self._sent_at[number] = now
            self._allowance.send(number, now)
            return number, 0.0

    def _refused(self, asked_s: float, quota: Quota, now: float, *, again: bool) -> None:
        """Hold everything for as long as is asked, and longer each time that it did not help."""
        self._refusals += again
        guess_s = min(LONGEST_GUESS_S, 2.0 ** min(self._refusals, 10) / 2 - 0.5)
        self._hold(max(asked_s, guess_s), now)
        self._allowance.refused(quota, self._held_until, now, again=again)

    def _hold(self, seconds: float, now: float) -> None:
        self._held_until = max(self._held_until, now + min(seconds, LONGEST_WAIT_S))

    def _tell(self, wait_s: float, now: float) -> None:
        """Log a long wait when it begins and when it ends, once for all threads."""
        if self._told_at is None and wait_s > WORTH_TELLING_S:
            self._told_at = now
            logger.info("the API's limit: next request in %.0f s", wait_s)
        elif self._told_at is not None and not wait_s:
            logger.info("the API's limit: going on after %.0f s", now - self._told_at)
            self._told_at = None

    def _agree(self) -> None:
        """Take the lowest rate and the smallest share of those that are still there."""
        alive = [(user, settings) for user in self._users if (settings := user())]
        self._users = [user for user, _ in alive]
        if alive:
            self._allowance.allow(
                min(s.requests_per_minute * s.rate_limit_share for _, s in alive),
                min(s.rate_limit_share for _, s in alive),
            )


_limiters: dict[bytes, RateLimiter] = {}
_lock = threading.Lock()


def shared_limiter(settings: Account) -> RateLimiter:
    """The process's limiter for the account.

    It keeps to the lowest rate and the smallest share of all settings that are in use for the
    account: no source gets more than its user allowed, and none is slowed by one that is gone.
    """
    # However its host and port are written.
    parts = urlsplit(settings.endpoint)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    url = f"{parts.hostname}:{port}{parts.path}"
    account = hashlib.sha256(f"{url}\n{settings.bearer_token}".encode()).digest()
    with _lock:
        limiter = _limiters.get(account)
        if limiter is None:
            rate, share = settings.requests_per_minute, settings.rate_limit_share
            limiter = _limiters[account] = RateLimiter(rate, share)
    limiter.share_with(settings)
    return limiter
