"""Each reading of the vendor's rate limit hands out what it says, and its headers tell."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import requests

from flowiq_source.sandbox import AlignedWindow, RateLimit, Sandbox, SlidingWindow
from tests.sandbox.test_sandbox import ask

MINUTE = 60.0
START = 1_200_000_000.0  # the beginning of a minute


@dataclass
class Clock:
    """A time that goes on only when it is told to."""

    time_s: float = START

    def __call__(self) -> float:
        """The time."""
        return self.time_s


def granted(limit: RateLimit, requests_: int = 201) -> int:
    """How many of so many requests at once are let through."""
    return sum(limit.take()[0] for _ in range(requests_))


@pytest.mark.parametrize("kind", [RateLimit, AlignedWindow, SlidingWindow])
@pytest.mark.parametrize(("per_minute", "burst"), [(100, 150), (100, 100), (20, 30), (1, 1)])
def test_no_more_than_a_burst_at_once_and_the_rate_in_the_long_run(
    kind: Callable[..., RateLimit], per_minute: int, burst: int
) -> None:
    """However it is counted."""
    clock = Clock()
    limit = kind(per_minute, burst, clock)
    assert granted(limit) == burst
    total = burst
    for _ in range(60):
        clock.time_s += MINUTE
        total += granted(limit)
    assert abs(total - 61 * per_minute) <= burst


def test_an_aligned_window_ends_with_the_minute() -> None:
    """What a burst took beyond the rate is missing in the minute after."""
    clock = Clock(START + 59)
    limit = AlignedWindow(100, 150, clock)
    assert [granted(limit)] == [150]
    assert limit.take()[1]["X-RateLimit-Reset"] == str(int(START + 60))
    clock.time_s += 1
    assert granted(limit) == 50
    clock.time_s += MINUTE
    assert granted(limit) == 150


def test_a_window_without_bursts_is_the_same_every_minute() -> None:
    """100 of 100."""
    clock = Clock()
    limit = AlignedWindow(100, 100, clock)
    for _ in range(3):
        assert granted(limit) == 100
        clock.time_s += MINUTE


def test_a_sliding_window_looks_back_from_each_request() -> None:
    """The end of a minute means nothing to it; the reset says when there is room again."""
    clock = Clock(START + 30)
    limit = SlidingWindow(100, 100, clock)
    assert granted(limit, 60) == 60
    clock.time_s += 20
    assert granted(limit) == 40
    clock.time_s += 39
    allowed, headers = limit.take()
    assert (allowed, headers["X-RateLimit-Reset"]) == (False, str(int(START + 90)))
    clock.time_s = float(headers["X-RateLimit-Reset"])
    assert granted(limit) == 60
    clock.time_s += 20
    assert granted(limit) == 40


@pytest.mark.parametrize("kind", [RateLimit, AlignedWindow, SlidingWindow])
def test_the_headers_count_down_to_the_refusal(kind: Callable[..., RateLimit]) -> None:
    """The rate, what is left of the burst, and a time that is not over; none is left at a 429."""
    clock = Clock()
    limit = kind(2, 3, clock)
    said = [limit.take() for _ in range(4)]
    assert [allowed for allowed, _ in said] == [True, True, True, False]
    assert [headers["X-RateLimit-Remaining"] for _, headers in said] == ["2", "1", "0", "0"]
    assert {headers["X-RateLimit-Limit"] for _, headers in said} == {"2"}
    assert all(clock.time_s <= int(headers["X-RateLimit-Reset"]) for _, headers in said)


@pytest.mark.parametrize("kind", [AlignedWindow, SlidingWindow])
def test_the_sandbox_takes_any_of_them(sandbox: Sandbox, kind: Callable[..., RateLimit]) -> None:
    """The refusal is the same."""
    sandbox.rate_limit = kind(1, 1, Clock())
    answers: list[requests.Response] = [ask(sandbox, action="contacts") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert "Retry-After" not in answers[1].headers
