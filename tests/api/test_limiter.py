"""The rate limit is used up and not overrun, whoever else uses the account."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from flowiq_source.api.limiter import RateLimiter, _limiters, shared_limiter
from flowiq_source.errors import ConfigurationError
from flowiq_source.sandbox import RateLimit, Sandbox
from flowiq_source.settings import Settings
from tests.support.rate_limits import Bucket, Limit, Simulation, Sliding, Window
from tests.support.warehouse import Clock

MINUTES = 10

_NO_HEADERS: Mapping[str, str] = {}

Make = Callable[[Callable[[], float]], Limit]


@dataclass
class Api:
    """An API that keeps its limit in one way, and how much it hands out at the beginning."""

    make: Make
    at_first: int = 0
    per_minute: int = 100


APIS = {
    "a minute of the clock": Api(Window),
    "a minute from the first request": Api(lambda clock: Window(clock, aligned=False)),
    "any 60 seconds": Api(Sliding),
    "any 60 seconds, all back at the reset": Api(lambda clock: Sliding(clock, moving_reset=True)),
    "windows of 150": Api(lambda clock: Window(clock, 150), per_minute=150),
    "windows of 150 called 100": Api(lambda clock: Window(clock, 150, said=100), 50),
    "the sandbox's bucket": Api(lambda clock: RateLimit(clock=clock), 150),
    "a bucket of 150": Api(Bucket, 150),
    "a bucket of 150 that names the next": Api(
        lambda clock: Bucket(clock, reset_at_next=True), 150
    ),
    "a bucket without burst": Api(lambda clock: Bucket(clock, 100), 100),
}
LATENCIES_S = [(0.05, 0.05), (1.0, 1.0), (2.0, 2.0), (0.05, 2.0)]
"""In order, and not."""


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> Api:
    """Each."""
    return APIS[request.param]


@pytest.mark.parametrize("latency_s", LATENCIES_S)
def test_whatever_limit_the_api_keeps_is_used_up(api: Api, latency_s: tuple[float, float]) -> None:
    """97% with 16 in flight, and never refused.

    96% of a sliding minute where answers take up to two seconds: what is on its way has to be
    kept back all the time.
    """
    simulation = Simulation(api.make, latency_s, api.per_minute).run(MINUTES)
    assert simulation.refused == 0
    used = simulation.ours / (api.at_first + api.per_minute * MINUTES)
    sliding = isinstance(simulation.limit, Sliding)
    assert used >= (0.96 if sliding and max(latency_s) == 2 else 0.97)


@pytest.mark.parametrize("latency_s", LATENCIES_S)
def test_another_program_is_made_room_for(api: Api, latency_s: tuple[float, float]) -> None:
    """Both use 95%; few are refused, because one of them comes an instant too late."""
    simulation = Simulation(api.make, latency_s, api.per_minute, others_per_minute=30)
    simulation.run(MINUTES)
    assert simulation.refused <= 3
    both = simulation.ours + simulation.others
    assert both >= 0.95 * (api.at_first + api.per_minute * MINUTES)
    assert simulation.others >= 0.75 * 30 * MINUTES


@pytest.mark.parametrize("per_minute", [30, 60])
@pytest.mark.parametrize("latency_s", [(0.0, 0.2), (0.0, 2.0)])
def test_where_a_bucket_fills_another_program_gets_all_that_it_wants(
    per_minute: float, latency_s: tuple[float, float]
) -> None:
    """However much that is."""
    simulation = Simulation(
        lambda clock: RateLimit(clock=clock), latency_s, others_per_minute=per_minute
    ).run(MINUTES)
    assert simulation.refused <= 3
    assert simulation.others >= 0.95 * per_minute * MINUTES
    assert 0.97 <= (simulation.ours + simulation.others) / (150 + 100 * MINUTES) <= 1.02


@pytest.mark.parametrize("others_per_minute", [0, 30])
def test_a_share_of_the_limit_leaves_the_rest_to_others(api: Api, others_per_minute: float) -> None:
    """Half of it is used, and whoever wants the other half gets it."""
    simulation = Simulation(
        api.make, (0.05, 2.0), api.per_minute, 0.5, others_per_minute=others_per_minute
    ).run(MINUTES)
    assert (simulation.refused, simulation.others_refused) == (0, 0)
    assert 0.97 <= simulation.ours / (api.per_minute / 2 * MINUTES) <= 1.2
    assert simulation.least_left >= (0 if others_per_minute else api.per_minute / 2 - 5)


@pytest.mark.parametrize("left", [0.0, 3.0, 60.0])
def test_what_an_earlier_run_used_is_known_from_the_first_answer(left: float) -> None:
    """At the worst the first requests find nothing left, and learn when to come again."""
    simulation = Simulation(
        lambda clock: RateLimit(clock=clock, _level=left, _at=clock()), (0.05, 0.05)
    ).run(MINUTES)
    assert simulation.refused == (left < 1)
    assert 0.97 <= simulation.ours / (left + 100 * MINUTES) <= 1.01


@pytest.mark.parametrize("second", [1, 30, 50, 59])
def test_a_run_may_begin_at_any_second_of_a_window(second: int) -> None:
    """What is left of the window is used too, as far as there is time."""
    simulation = Simulation(Window, (0.05, 0.5), start=1_800_000_000.0 + second).run(
        MINUTES + (60 - second) / 60
    )
    assert simulation.refused == 0
    assert simulation.ours >= 0.97 * 100 * MINUTES + min(100, 25 * (60 - second)) / 2


@pytest.mark.parametrize("limit", [1, 5, 20, 60])
def test_a_lower_limit_than_expected_is_taken_over(limit: int) -> None:
    """From the header of the first answer."""
    window = Simulation(lambda clock: Window(clock, limit), (0.05, 0.05)).run(MINUTES)
    assert window.refused == 0
    assert window.ours >= 0.97 * limit * MINUTES
    bucket = Simulation(lambda clock: RateLimit(limit, limit, clock=clock), (0.05, 0.05))
    assert bucket.run(MINUTES).refused == 0
    assert bucket.ours >= 0.97 * limit * (MINUTES + 1) - 1


@dataclass
class Caller:
    """One thread on a clock; `waits` is how long each request had to wait."""

    per_minute: float = 100
    share: float = 1.0

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.limiter = RateLimiter(self.per_minute, self.share, self.clock)

    def ask(self, status: int | None = 200, headers: Mapping[str, str] = _NO_HEADERS) -> float:
        """The seconds that a request had to wait, which is then answered so."""
        before = self.clock.time_s
        number = self.limiter.acquire(self.clock.sleep)
        self.limiter.note(number, status, headers)
        return self.clock.time_s - before

    def answer(self, limit: object = 100, left: object = 50, reset: object = 60) -> float:
        """The same with the documented headers."""
        names = ("limit", "remaining", "reset")
        values = zip(names, (limit, left, reset), strict=True)
        return self.ask(200, {f"x-ratelimit-{name}": str(value) for name, value in values})


@pytest.fixture
def caller() -> Caller:
    """A new one."""
    return Caller()


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_without_headers_requests_go_evenly(share: float) -> None:
    """Nothing says that a burst is allowed."""
    caller = Caller(share=share)
    waits = [caller.ask() for _ in range(100)]
    assert sum(waits) == pytest.approx(99 * 0.6 / share, abs=2)
    assert max(waits) <= 0.6 / share + 0.01


def test_a_limit_is_followed_down_and_up_again(caller: Caller) -> None:
    """A single answer that says 1 does not hold for the rest of the process."""
    caller.ask(headers={"x-ratelimit-limit": "1"})
    assert caller.ask(headers={"x-ratelimit-limit": "100"}) == pytest.approx(60, abs=2)
    assert sum(caller.ask(headers={"x-ratelimit-limit": "100"}) for _ in range(10)) <= 7


@pytest.mark.parametrize("limit", ["0", "-5", "1e9", "9" * 30, "²", "", "many"])
def test_an_absurd_limit_is_ignored(caller: Caller, limit: str) -> None:
    """The rate stays what it was."""
    caller.ask(headers={"x-ratelimit-limit": "50"})
    assert caller.ask(headers={"x-ratelimit-limit": limit}) <= 1.3
    assert sum(
        caller.ask(headers={"x-ratelimit-limit": limit}) for _ in range(10)
    ) == pytest.approx(12, abs=1)


def test_a_higher_limit_does_not_lift_the_users_own(caller: Caller) -> None:
    """The setting is the upper bound, burst included."""
    waited = sum(caller.answer(limit=1000, left=900) for _ in range(350))
    assert waited >= 119


def test_a_stale_answer_neither_frees_nor_holds(caller: Caller) -> None:
    """One that was sent before the reset says what was left of the old window."""
    late, first = (caller.limiter.acquire(caller.clock.sleep) for _ in range(2))
    headers = {"x-ratelimit-limit": "100", "x-ratelimit-reset": "60"}
    caller.limiter.note(first, 200, headers | {"x-ratelimit-remaining": "1"})
    caller.limiter.note(late, 200, headers | {"x-ratelimit-remaining": "90"})
    assert caller.answer() >= 50
    late = caller.limiter.acquire(caller.clock.sleep)
    caller.answer(left=80)
    caller.limiter.note(
        late, 200, headers | {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"}
    )
    assert sum(caller.answer(left=70) for _ in range(20)) <= 20


def test_when_headers_stop_coming_the_last_ones_do_not_hold_for_ever(caller: Caller) -> None:
    """A minute after the reset they are forgotten."""
    caller.answer(left=0)
    assert sum(caller.ask() for _ in range(200)) <= 60 + 60 + 200 * 0.6 + 5


@pytest.mark.parametrize("status", [200, 429, 500, 503])
@pytest.mark.parametrize(("asked", "waited_s"), [("30", 30), ("1.5", 1.5), ("86400", 300)])
def test_retry_after_holds_on_any_answer_but_never_for_long(
    caller: Caller, status: int, asked: str, waited_s: float
) -> None:
    """A day beside a 200 is five minutes."""
    caller.ask(status, {"retry-after": asked})
    assert caller.ask() == pytest.approx(max(waited_s, 0.6), abs=0.6)


def test_a_good_answer_with_requests_left_does_not_hold(caller: Caller) -> None:
    """Its Retry-After contradicts what it says is left."""
    caller.ask(200, {"x-ratelimit-remaining": "50", "retry-after": "86400"})
    assert caller.ask() <= 1


@pytest.mark.parametrize("said", [{"retry-after": "41"}, {"x-ratelimit-reset": "41"}])
def test_a_429_holds_everything_until_it_says(caller: Caller, said: dict[str, str]) -> None:
    """Then the rate resumes: evenly, not with all that was saved up."""
    others = [caller.limiter.acquire(caller.clock.sleep) for _ in range(3)]
    caller.ask(429, said)
    for number in others:
        caller.limiter.note(number, 200, {})
    assert caller.ask() == pytest.approx(41, abs=1)
    assert sum(caller.ask() for _ in range(20)) == pytest.approx(12, abs=2)


def test_a_429_that_says_nothing_holds_for_a_growing_while(caller: Caller) -> None:
    """At most a minute; a good answer ends it. Those in flight with it count as one."""
    both = [caller.limiter.acquire(caller.clock.sleep) for _ in range(2)]
    for number in both:
        caller.limiter.note(number, 429, {})
    waits = [caller.ask(429) for _ in range(8)]
    assert waits == pytest.approx([0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 60, 60], abs=0.5)
    assert caller.ask() == pytest.approx(60, abs=0.5)
    assert caller.ask(429) <= 1
    assert caller.ask() == pytest.approx(1, abs=0.5)


def test_a_request_without_an_answer_is_noted_too(caller: Caller) -> None:
    """It may have been counted."""
    caller.answer(left=60)
    assert sum(caller.ask(None) for _ in range(30)) >= 10


class Given(Exception):
    """The wait is given up."""


def test_a_wait_that_is_given_up_counts_for_nothing(caller: Caller) -> None:
    """Nothing is locked, and no number is used up."""

    def give_up(seconds: float) -> None:
        raise Given

    first = caller.limiter.acquire(give_up)
    for _ in range(310):
        with pytest.raises(Given):
            caller.limiter.acquire(give_up)
    assert caller.ask() <= 0.7
    assert caller.limiter.acquire(caller.clock.sleep) == first + 2


def test_a_long_wait_is_logged_when_it_begins_and_when_it_ends(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, however many threads wait."""
    caplog.set_level(logging.INFO, "flowiq_source")

    def give_up(seconds: float) -> None:
        raise Given

    caller.ask(429, {"retry-after": "41"})
    for _ in range(16):
        with pytest.raises(Given):
            caller.limiter.acquire(give_up)
    caller.ask(429, {"retry-after": "9"})
    caller.ask()
    assert [record.getMessage() for record in caplog.records] == [
        "the API's limit: next request in 41 s",
        "the API's limit: going on after 41 s",
    ]


def test_threads_share_the_limit(sandbox: Sandbox) -> None:
    """16 in real time, with more to ask than the account has: none is refused."""
    sandbox.rate_limit = RateLimit(600, 600)
    limiter = RateLimiter(600)
    statuses = []

    def ask(_: int) -> None:
        number = limiter.acquire(time.sleep)
        answer = requests.get(
            f"{sandbox.url}/conversations",
            {"action": "contacts", "tenantId": sandbox.tenant},
            headers={"Authorization": f"Bearer {sandbox.token}"},
            timeout=10,
        )
        said = {name.lower(): value for name, value in answer.headers.items()}
        limiter.note(number, answer.status_code, said)
        statuses.append(answer.status_code)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(310)))
    assert statuses == [200] * 310


def test_threads_that_were_held_go_on_one_after_the_other() -> None:
    """And while they wait they sleep."""
    limiter = RateLimiter(600)
    sleeps, sent = [], []
    limiter.note(limiter.acquire(time.sleep), 429, {"retry-after": "1"})

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        time.sleep(seconds)

    def ask() -> None:
        number = limiter.acquire(sleep)
        sent.append(time.monotonic())
        limiter.note(number, 200, {})

    threads = [threading.Thread(target=ask) for _ in range(16)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent.sort()
    assert sent[0] - began >= 0.9
    assert sent[-1] - sent[0] >= (16 - 1 - 11) / 10 - 0.1
    assert len(sleeps) <= 16 * 20


def account(**settings: Any) -> Settings:
    """What a source would be given."""
    defaults: dict[str, Any] = {"bearer_token": "token", "base_url": "http://localhost:1"}
    return Settings(**defaults | settings)


def test_the_process_has_one_limiter_per_account() -> None:
    """However many sources and verifications it makes; no token is kept."""
    first, again = (account(tenant_id=tenant) for tenant in ("a", "b"))
    other = account(bearer_token="another")
    assert shared_limiter(first) is shared_limiter(again) is not shared_limiter(other)
    assert "another" not in repr(_limiters)


def test_an_account_is_the_same_however_its_host_is_written() -> None:
    """It would have as many times the requests."""
    urls = ("https://h.invalid", "https://H.invalid/", "https://h.invalid:443/conversations")
    limiters = {shared_limiter(account(base_url=url)) for url in urls}
    assert len(limiters) == 1
    assert shared_limiter(account(base_url="https://h.invalid:444")) not in limiters


@pytest.mark.parametrize("slow_first", [True, False])
def test_the_lowest_rate_of_all_sources_that_are_alive_counts(slow_first: bool) -> None:
    """Whichever came first, and no longer than it lives."""
    url = f"http://localhost:{2 + slow_first}"
    fast = account(base_url=url, requests_per_minute=600_000)
    slow = account(base_url=url, requests_per_minute=3000, rate_limit_share=0.02)
    limiters = {shared_limiter(s) for s in ((slow, fast) if slow_first else (fast, slow))}
    [limiter] = limiters
    assert _turns_at_once(limiter) <= 2
    del slow
    gc.collect()
    assert _turns_at_once(limiter) == 100


def _turns_at_once(limiter: RateLimiter) -> int:
    """How many requests may go before one has to wait, up to 100."""

    def give_up(seconds: float) -> None:
        raise Given

    turns = 0
    with suppress(Given):
        while turns < 100:
            limiter.note(limiter.acquire(give_up), None, {})
            turns += 1
    return turns


@pytest.mark.parametrize("setting", ["requests_per_minute", "rate_limit_share"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_cannot_be_is_refused(setting: str, value: float) -> None:
    """Naming the setting."""
    with pytest.raises(ConfigurationError, match=f"sources.flowiq.{setting}"):
        account(**{setting: value}).on_resolved()
