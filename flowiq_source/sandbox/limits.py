"""The rate limit, in the three ways in which the vendor's words can be read.

Source: "100 requests per minute", "150 requests per minute for short bursts"; whether that is a
bucket or a window, and of which kind, no document says. Every answer carries `X-RateLimit-Limit`,
`-Remaining` and `-Reset` in epoch seconds.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

Taken = tuple[bool, dict[str, str]]
"""Whether one more request is allowed, and the headers that every answer carries."""


@dataclass
class RateLimit:
    """A bucket of `burst` requests that fills at `per_minute`."""

    per_minute: int = 100
    burst: int = 150
    clock: Callable[[], float] = time.time
    _level: float | None = None
    _at: float = 0.0

    def take(self) -> Taken:
        """Whether one more request is allowed, and the headers that every answer carries."""
        now = self.clock()
        level = self.burst if self._level is None else self._level
        level = min(self.burst, level + (now - self._at) * self.per_minute / 60)
        allowed = level >= 1
        self._level, self._at = level - allowed, now
        wait_s = max(0.0, self.per_minute - self._level) * 60 / self.per_minute
        return allowed, self._headers(self._level, now + wait_s)

    def _headers(self, left: float, reset_at: float) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.per_minute),
            "X-RateLimit-Remaining": str(int(left)),
            "X-RateLimit-Reset": str(int(reset_at)),
        }


@dataclass
class AlignedWindow(RateLimit):
    """New requests when the clock's minute is over.

    At most `burst` in one minute, and twice `per_minute` in two. With `burst` the
    same as `per_minute`, each minute has as many as the other.
    """

    _minute: int = 0
    _used: int = 0
    _used_before: int = 0

    def take(self) -> Taken:
        """As `RateLimit.take`; the reset is the end of the minute."""
        minute = int(self.clock() // 60)
        if minute != self._minute:
            self._used_before = self._used if minute == self._minute + 1 else 0
            self._minute, self._used = minute, 0
        size = min(self.burst, 2 * self.per_minute - self._used_before)
        allowed = self._used < size
        self._used += allowed
        return allowed, self._headers(size - self._used, (minute + 1) * 60)


@dataclass
class SlidingWindow(RateLimit):
    """At most `burst` requests in any 60 seconds, and twice `per_minute` in any 120."""

    _times: list[float] = field(default_factory=list)

    def take(self) -> Taken:
        """As `RateLimit.take`; the reset is when the next request gets room."""
        now = self.clock()
        del self._times[: bisect_right(self._times, now - 120)]
        allowed = self._left(now) > 0
        if allowed:
            self._times.append(now)
        return allowed, self._headers(self._left(now), math.ceil(self._room_at(now)))

    def _left(self, now: float) -> int:
        lately = len(self._times) - bisect_right(self._times, now - 60)
        return min(self.burst - lately, 2 * self.per_minute - len(self._times))

    def _room_at(self, now: float) -> float:
        """When a request leaves the windows that are full, or the shorter one where none is."""
        full = [
            self._times[-size] + seconds
            for size, seconds in ((self.burst, 60), (2 * self.per_minute, 120))
            if len(self._times) >= size and self._times[-size] > now - seconds
        ]
        return max(full) if full else self._times[bisect_right(self._times, now - 60)] + 60


LIMITS = {"bucket": RateLimit, "aligned": AlignedWindow, "sliding": SlidingWindow}
"""By the name that the command line gives them."""
