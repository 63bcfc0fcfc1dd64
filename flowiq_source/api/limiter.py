"""The account's rate limit: one limiter per account for the whole process, fed by the API.

Source: FlowIQ API reference, "Rate limits": 100 requests a minute, bursts to 150, and on every
answer `X-RateLimit-Limit`, `-Remaining` and `-Reset` (epoch seconds).
"""

import itertools
import threading
from collections.abc import Awaitable, Callable, Mapping

from pyrate_limiter import Duration, Rate, RateItem, StateBucket, TokenBucket
from pyrate_limiter.clocks import AbstractClock, MonotonicClock

from flowiq_source.api.answers import wait_asked
from flowiq_source.settings import Settings

BURST = 1.5
"""How many minutes' requests may be sent at once, if they were saved up."""

RESERVE = 2
"""Requests that stay unspent: with none left, the API asks to wait for a whole minute.

One, because its bucket and ours do not fill at the same moment; one, because a request may be on
its way for longer than the next.
"""


class RateLimiter:
    """A bucket of requests that fills evenly; tasks and threads may share it.

    `acquire` waits for a request's turn and numbers it. `note` takes over what the API says is
    left, because another program or an earlier run may have used the account: each `acquire` needs
    one `note`.
    """

    def __init__(
        self, per_minute: float, share: float = 1.0, clock: AbstractClock | None = None
    ) -> None:
        self._share = share
        self._clock = clock or MonotonicClock()
        self._rate = _rate(per_minute * share)
        self._bucket = StateBucket([self._rate], TokenBucket(), clock=self._clock)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._in_flight: set[int] = set()
        self._held_until_ms = 0.0

    async def acquire(self, sleep: Callable[[float], Awaitable[None]]) -> int:
        """The number of the next request, when it may be sent."""
        while wait_s := self._take():
            await sleep(wait_s)
        with self._lock:
            number = next(self._numbers)
            self._in_flight.add(number)
        return number

    def _take(self) -> float:
        """Seconds to wait; 0 when a request was taken."""
        with self._lock:
            now = self._now()
            if now < self._held_until_ms:
                return (self._held_until_ms - now) / 1000
            item = RateItem("request", now)
            if not self._bucket.put(item):
                # At least the clock's own step, or the wait would end before it began.
                return max(1, int(self._bucket.waiting(item))) / 1000  # type: ignore[arg-type]
            return 0.0

    def note(self, number: int, headers: Mapping[str, str]) -> None:
        """Take over what an answer says, names in lower case; no headers if none came."""
        with self._lock:
            self._in_flight.discard(number)
            limit, left = (_number(headers.get(f"x-ratelimit-{n}")) for n in ("limit", "remaining"))
            if limit and limit * self._share < self._rate.limit:
                self._rate = _rate(limit * self._share)
                self._bucket.rates = [self._rate]
            if left is not None:
                # The answer does not count the requests that were sent later. Answers come in any
                # order, so what was sent before it is counted, though its answer be on its way.
                unspent = left - sum(other > number for other in self._in_flight)
                self._leave(int(unspent - max(RESERVE, (1 - self._share) * (limit or 0))))
                self._hold(max(0, RESERVE - unspent) * 60 / self._rate.limit)
            if left == 0 and (wait_s := wait_asked(headers)):
                self._hold(wait_s)

    def _hold(self, seconds: float) -> None:
        self._held_until_ms = max(self._held_until_ms, self._now() + seconds * 1000)

    def _leave(self, left: int) -> None:
        """Have no more than so many requests in the bucket."""
        ours = self._rate.burst - int(self._bucket.count())  # type: ignore[arg-type]
        if ours > max(0, left):
            self._bucket.put(RateItem("others", self._now(), weight=ours - max(0, left)))

    def _now(self) -> int:
        return int(self._clock.now())  # type: ignore[arg-type]


def _rate(per_minute: float) -> Rate:
    requests = max(1, int(per_minute))
    return Rate(requests, Duration.MINUTE, burst=int(requests * BURST))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


_limiters: dict[tuple[str, str], RateLimiter] = {}
_lock = threading.Lock()


def shared_limiter(settings: Settings) -> RateLimiter:
    """The process's limiter for the account; the settings that came first decide its rate."""
    with _lock:
        account = (settings.endpoint, settings.bearer_token)
        if account not in _limiters:
            _limiters[account] = RateLimiter(
                settings.requests_per_minute, settings.rate_limit_share
            )
        return _limiters[account]
