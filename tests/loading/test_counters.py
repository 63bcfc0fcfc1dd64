"""How long a run still takes, as the progress says it."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from flowiq_source.loading.counters import Counters
from flowiq_source.settings import Settings


@pytest.mark.parametrize(
    ("seconds", "requests", "says"),
    [
        (6, 10, "about 10 min left"),
        (600, 1000, ""),
        (120, 20, "about 99 min left"),
        (60, 300, "about 7 min left"),
        (90, 0, "about 10 min left"),
    ],
)
def test_the_time_left_follows_the_pace_that_the_api_allows(
    seconds: float, requests: int, says: str
) -> None:
    """By the settings at first; where less comes of it, by that; a burst makes it no shorter."""
    told: list[Any] = []
    run: Any = SimpleNamespace(due=0, left=0, counts=Counter(planned=1010))
    api = SimpleNamespace(requests=requests, pace=lambda: "as it is")
    collector = SimpleNamespace(update=lambda *_, message, **__: told.append(message))
    settings = Settings(bearer_token="fiq_x", requests_per_minute=100)
    Counters(run, api, settings, collector, began_s=100, clock=lambda: 100 + seconds).tell()
    assert told == [f"as it is, {says}" if says else "as it is"]
