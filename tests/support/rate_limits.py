"""The ways in which an API may keep its limit, and many requests at once against them."""

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn, Protocol

from flowiq_source.api.limiter import RateLimiter
from flowiq_source.sandbox import RateLimit
from tests.support.warehouse import Clock

IN_FLIGHT = 16

Taken = tuple[bool, dict[str, str]]


class Limit(Protocol):
    """As the sandbox's `RateLimit`."""

    def take(self) -> Taken:
        """Whether one more request is allowed, and the headers that every answer carries."""


def headers(limit: int, left: float, reset_at: float) -> dict[str, str]:
    """The documented ones."""
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(int(left)),
        "X-RateLimit-Reset": str(math.ceil(reset_at)),
    }


@dataclass
class Window:
    """So many a minute of the clock, or a minute that begins with the first request."""

    clock: Callable[[], float]
    per_minute: int = 100
    aligned: bool = True
    said: int = 0
    end: float = 0.0
    used: int = 0

    def take(self) -> Taken:
        """As `RateLimit.take`."""
        now = self.clock()
        if now >= self.end:
            self.end, self.used = (now // 60 * 60 if self.aligned else now) + 60, 0
        allowed = self.used < self.per_minute
        self.used += allowed
        said = self.said or self.per_minute
        return allowed, headers(said, self.per_minute - self.used, self.end)


@dataclass
class Sliding:
    """So many in any 60 seconds; the reset is when the first of them is over, or the last."""

    clock: Callable[[], float]
    per_minute: int = 100
    moving_reset: bool = False
    log: deque[float] = field(default_factory=deque)

    def take(self) -> Taken:
        """As `RateLimit.take`."""
        now = self.clock()
        while self.log and self.log[0] <= now - 60:
            self.log.popleft()
        allowed = len(self.log) < self.per_minute
        if allowed:
            self.log.append(now)
        began = now if self.moving_reset else self.log[0]
        return allowed, headers(self.per_minute, self.per_minute - len(self.log), began + 60)


@dataclass
class Bucket:
    """As the sandbox's, but its reset is when the bucket is full or when the next one is there."""

    clock: Callable[[], float]
    burst: int = 150
    reset_at_next: bool = False

    def __post_init__(self) -> None:
        self.limit = RateLimit(100, self.burst, clock=self.clock)

    def take(self) -> Taken:
        """As `RateLimit.take`."""
        allowed, _ = self.limit.take()
        level = self.limit._level or 0.0
        missing = max(0.0, 1 - level) if self.reset_at_next else self.burst - level
        return allowed, headers(100, level, self.clock() + missing * 0.6)


class _Asleep(Exception):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def _fall_asleep(seconds: float) -> NoReturn:
    raise _Asleep(seconds)


@dataclass
class Simulation:
    """16 that ask, and perhaps another program, in no time; a wait is cancelled and begun again.

    A request reaches the API at any point of its latency, or in the middle where it is steady.
    """

    make: Callable[[Callable[[], float]], Limit]
    latency_s: tuple[float, float]
    per_minute: float = 100
    share: float = 1.0
    others_per_minute: float = 0.0
    start: float = 1_800_000_000.0
    ours: int = 0
    refused: int = 0
    others: int = 0
    others_refused: int = 0
    least_left: int = 10**9

    def __post_init__(self) -> None:
        self.clock, self.random = Clock(), Random(1)
        self.clock.time_s = self.start
        self.limit = self.make(self.clock)
        self.limiter = RateLimiter(self.per_minute, self.share, self.clock)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def run(self, minutes: float) -> "Simulation":
        """As many requests as go in this time."""
        self.end = self.start + minutes * 60
        for _ in range(IN_FLIGHT):
            self._after(0, self._ask)
        if self.others_per_minute:
            self._after(1, self._use)
        while self._events:
            self.clock.time_s, _, happen = heapq.heappop(self._events)
            happen()
        return self

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.clock.time_s + seconds, next(self._order), happen))

    def _ask(self) -> None:
        if self.clock.time_s >= self.end:
            return
        try:
            number = self.limiter.acquire(_fall_asleep)
        except _Asleep as asleep:
            self._after(asleep.seconds, self._ask)
            return
        shortest, longest = self.latency_s
        latency = self.random.uniform(shortest, longest)
        there = 0.5 if shortest == longest else self.random.random()
        self._after(latency * there, lambda: self._arrive(number, latency * (1 - there)))

    def _arrive(self, number: int, back_s: float) -> None:
        allowed, said = self.limit.take()
        self.ours += allowed and self.clock.time_s < self.end
        self.refused += not allowed
        self.least_left = min(self.least_left, int(said["X-RateLimit-Remaining"]))
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.clock.time_s))
        lower = {name.lower(): value for name, value in said.items()} | {"date": date}

        def answer() -> None:
            self.limiter.note(number, 200 if allowed else 429, lower)
            self._ask()

        self._after(back_s, answer)

    def _use(self) -> None:
        if self.clock.time_s >= self.end:
            return
        allowed, _ = self.limit.take()
        self.others += allowed
        self.others_refused += not allowed
        self._after(60 / self.others_per_minute * self.random.uniform(0.5, 1.5), self._use)
