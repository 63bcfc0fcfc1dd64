"""The rate limit is used up and not overrun, whoever else uses the account."""

import heapq
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import pytest

from flowiq_source.api.answers import Page
from flowiq_source.api.client import FlowiqClient, Meter
from flowiq_source.api.in_flight import IN_FLIGHT, Task, as_completed, result_of, sleep
from flowiq_source.api.limiter import RateLimiter, shared_limiter
from flowiq_source.errors import ConfigurationError
from flowiq_source.sandbox import RateLimit, Sandbox
from flowiq_source.settings import Settings
from tests.support.warehouse import Clock

LATENCY_S = 0.05


@dataclass
class FixedWindow:
    """The other way to read the vendor's words: so many a minute, and new ones when it is over."""

    clock: Callable[[], float]
    per_minute: int = 100
    window: float = 0.0
    used: int = 0

    def take(self) -> tuple[bool, dict[str, str]]:
        """As `RateLimit.take`."""
        window = self.clock() // 60
        self.window, self.used = window, (self.used if window == self.window else 0)
        allowed = self.used < self.per_minute
        self.used += allowed
        return allowed, {
            "X-RateLimit-Limit": str(self.per_minute),
            "X-RateLimit-Remaining": str(self.per_minute - self.used),
            "X-RateLimit-Reset": str(int((window + 1) * 60)),
        }


@dataclass
class Account:
    """A client, the API's limit and the clock of both; every answer is noted."""

    sandbox: Sandbox
    clock: Clock
    refused: int = 0
    least_left: int = 1000

    def client(self, per_minute: float = 100, share: float = 1.0) -> FlowiqClient:
        """A client whose waits make the clock go."""
        settings = Settings(self.sandbox.token, self.sandbox.tenant, self.sandbox.url)
        limiter = RateLimiter(per_minute, share, self.clock)
        return FlowiqClient(settings, sleep=self.clock.wait, limiter=limiter)

    def limited_by(self, limit: "RateLimit | FixedWindow") -> None:
        """Have the API keep this limit."""
        take = limit.take

        def watched() -> tuple[bool, dict[str, str]]:
            self.clock.sleep(LATENCY_S)
            allowed, headers = take()
            self.refused += not allowed
            self.least_left = min(self.least_left, int(headers["X-RateLimit-Remaining"]))
            # The answer says what time it is at the API.
            return allowed, headers | {"Date": _http_date(self.clock.time_s)}

        limit.take = watched  # type: ignore[method-assign]
        self.sandbox.rate_limit = limit  # type: ignore[assignment]

    def requests_in(self, minutes: float, client: FlowiqClient) -> int:
        """How many requests the client gets through."""
        end, count = self.clock.time_s + minutes * 60, 0
        while self.clock.time_s < end:
            result_of(client.contacts(1, Meter()))
            count += 1
        return count


def _http_date(time_s: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time_s))


@pytest.fixture
def account(sandbox: Sandbox) -> Account:
    """The account of the sandbox."""
    return Account(sandbox, Clock())


MINUTES = 10


def test_a_run_at_the_limit_uses_it_up_and_is_never_refused(account: Account) -> None:
    """At least 97% of what a bucket of 150 that fills at 100 a minute hands out."""
    account.limited_by(RateLimit(clock=lambda: account.clock.time_s))
    count = account.requests_in(MINUTES, account.client())
    assert account.refused == 0
    assert 0.97 <= count / (150 + 100 * MINUTES) <= 1


def test_a_limit_by_the_minute_is_used_up_too(account: Account) -> None:
    """The API does not say which of the two it keeps; its headers do."""
    account.limited_by(FixedWindow(lambda: account.clock.time_s))
    count = account.requests_in(MINUTES, account.client())
    assert account.refused == 0
    assert 0.97 <= count / (100 * MINUTES) <= 1.1


@pytest.mark.parametrize("left", [0.0, 3.0, 60.0])
def test_what_an_earlier_run_used_is_known_from_the_first_answer(
    account: Account, left: float
) -> None:
    """At the worst the first request finds nothing left, and learns when to come again."""
    account.limited_by(
        RateLimit(clock=lambda: account.clock.time_s, _level=left, _at=account.clock.time_s)
    )
    count = account.requests_in(MINUTES, account.client())
    assert account.refused == (left < 1)
    assert 0.97 <= count / (left + 100 * MINUTES) <= 1


def test_a_share_of_the_limit_leaves_the_rest_to_others(account: Account) -> None:
    """Half of the rate, and half of a minute's requests are always there."""
    account.limited_by(RateLimit(clock=lambda: account.clock.time_s))
    count = account.requests_in(MINUTES, account.client(share=0.5))
    assert account.refused == 0
    assert account.least_left >= 50
    assert 0.97 <= count / (75 + 50 * MINUTES) <= 1


def test_a_lower_limit_than_expected_is_taken_over(account: Account) -> None:
    """From the header of the first answer."""
    account.limited_by(RateLimit(20, 30, clock=lambda: account.clock.time_s))
    count = account.requests_in(MINUTES, account.client())
    assert account.refused == 0
    assert 0.97 <= count / (30 + 20 * MINUTES) <= 1


@dataclass
class InFlight:
    """Many tasks that use the account at once, without HTTP: on the clock, in no time."""

    latency_s: float
    in_order: bool = True
    clock: Clock = field(default_factory=Clock)
    lefts: list[int] = field(default_factory=list)
    refused: int = 0
    by_others: int = 0

    def __post_init__(self) -> None:
        self.random = Random(1)
        self.limit = RateLimit(clock=lambda: self.clock.time_s)
        self.limiter = RateLimiter(100, clock=self.clock)

    def run(self, minutes: float, others_per_minute: float = 0.0) -> None:
        """A first request that has to connect before, and then as many as may be in flight."""
        self._simulate([self._ask(self.clock.time_s, self.latency_s / 2 + 0.1)])
        end = self.clock.time_s + minutes * 60
        tasks = [self._ask(end, self.latency_s / 2) for _ in range(IN_FLIGHT)]
        if others_per_minute:
            tasks.append(self._use(end, others_per_minute))
        self._simulate(tasks)

    async def _ask(self, until: float, way_s: float) -> None:
        while True:
            number = await self.limiter.acquire(sleep)
            await self._travel(way_s)
            allowed, headers = self.limit.take()
            self.refused += not allowed
            self.lefts.append(int(headers["X-RateLimit-Remaining"]))
            headers["Date"] = _http_date(self.clock.time_s)
            await self._travel(way_s)
            self.limiter.note(number, {name.lower(): value for name, value in headers.items()})
            if self.clock.time_s >= until:
                break

    async def _travel(self, way_s: float) -> None:
        await sleep(way_s if self.in_order else self.random.uniform(0, 2 * way_s))

    async def _use(self, until: float, per_minute: float) -> None:
        while self.clock.time_s < until:
            await sleep(60 / per_minute * self.random.uniform(0.5, 1.5))
            self.by_others += self.limit.take()[0]

    def _simulate(self, tasks: list[Task[None]]) -> None:
        asleep = [(self.clock.time_s, number) for number in range(len(tasks))]
        while asleep:
            self.clock.time_s, number = heapq.heappop(asleep)
            with suppress(StopIteration):
                heapq.heappush(asleep, (self.clock.time_s + tasks[number].send(None), number))


@pytest.mark.parametrize("latency_s", [0.001, 0.1, 1.0])
@pytest.mark.parametrize("in_order", [True, False])
def test_with_many_in_flight_the_limit_is_used_up_too(latency_s: float, in_order: bool) -> None:
    """And the last request is never sent: with none left, the API asks to wait for a minute.

    Its bucket begins to fill later than ours, by as long as the first request took.
    """
    account = InFlight(latency_s, in_order)
    account.run(MINUTES)
    assert (account.refused, min(account.lefts) >= 1) == (0, True)
    assert 0.97 <= (len(account.lefts) - IN_FLIGHT) / (150 + 100 * MINUTES) <= 1


@pytest.mark.parametrize("latency_s", [0.1, 1.0])
@pytest.mark.parametrize("per_minute", [30, 60])
def test_another_program_that_uses_the_account_is_made_room_for(
    per_minute: float, latency_s: float
) -> None:
    """Both together use it up; now and then one of them comes an instant too late."""
    account = InFlight(latency_s, in_order=False)
    account.run(MINUTES, others_per_minute=per_minute)
    assert account.refused <= 3
    assert account.by_others >= 0.95 * per_minute * MINUTES
    used = len(account.lefts) - account.refused + account.by_others
    assert 0.97 <= used / (150 + 100 * MINUTES) <= 1.02


def test_threads_share_the_limit(sandbox: Sandbox) -> None:
    """Three with 13 requests each, in real time: 40 at 600 a minute and a bucket of 20."""
    limit = RateLimit(600, 20)
    refused = []
    take = limit.take

    def watched() -> tuple[bool, dict[str, str]]:
        allowed, headers = take()
        refused.append(not allowed)
        return allowed, headers

    limit.take = watched  # type: ignore[method-assign]
    sandbox.rate_limit = limit
    settings = Settings(sandbox.token, sandbox.tenant, sandbox.url, 600)
    client = FlowiqClient(settings)
    result_of(client.contacts(1, Meter()))
    began = time.monotonic()

    def ask(_: int) -> list[Page]:
        return list(as_completed(client.contacts(1, Meter()) for _ in range(13)))

    with ThreadPoolExecutor(3) as threads:
        assert sum(len(pages) for pages in threads.map(ask, range(3))) == 39
    assert time.monotonic() - began >= (40 - 20) / 10 - 0.2
    assert refused == [False] * 40


def test_the_process_has_one_limiter_per_account() -> None:
    """However many sources and verifications it makes."""
    first, again = (Settings("token", tenant, "http://localhost:1") for tenant in ("a", "b"))
    other = Settings("another", None, "http://localhost:1")
    assert shared_limiter(first) is shared_limiter(again) is not shared_limiter(other)


@pytest.mark.parametrize("setting", ["requests_per_minute", "rate_limit_share"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_cannot_be_is_refused(setting: str, value: float) -> None:
    """Naming the setting."""
    with pytest.raises(ConfigurationError, match=f"sources.flowiq.{setting}"):
        Settings("token", **{setting: value})  # type: ignore[arg-type]


def test_a_wait_ends_when_nobody_wants_the_result_any_more() -> None:
    """So that Ctrl-C is not answered a minute later."""
    given_up = []

    async def waits() -> None:
        try:
            await sleep(60)
        except GeneratorExit:
            given_up.append(True)
            raise

    async def ends() -> None:
        await sleep(0.01)

    results = as_completed([waits(), ends()])
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert given_up == [True]
