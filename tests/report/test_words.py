"""Numbers and durations as the report writes them."""

import pytest

from flowiq_source.report.words import counted, duration, number, share, unit_for


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.2, "under 1 s"),
        (4.4, "4 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (95, "1 min 35 s"),
        (599, "9 min 59 s"),
        (1_298, "22 min"),
        (3_599, "1 h"),
        (7_500, "2 h 5 min"),
        (86_399, "1 d"),
        (129_600, "1 d 12 h"),
        (863_999, "10 d"),
        (8_640_000, "100 d"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float | None, written: str) -> None:
    """Rounded, and without the smaller one where that would say nothing."""
    assert duration(seconds).replace("\u00a0", " ") == written


@pytest.mark.parametrize(
    ("part", "whole", "written"),
    [
        (0, 0, "–"),
        (0, 5, "0%"),
        (1, 3, "33%"),
        (1, 50, "2.0%"),
        (997, 1000, "99.7%"),
        (5, 5, "100%"),
    ],
)
def test_a_share_is_exact_near_its_ends(part: int, whole: int, written: str) -> None:
    """And no share where there is no whole."""
    assert share(part, whole).replace("\u00a0", "") == written


def test_nothing_is_a_dash_and_never_a_zero() -> None:
    """A median of no answers is not an answer at once."""
    assert (number(None), number(0), number(1234567)) == ("–", "0", "1,234,567")


def test_one_is_not_many() -> None:
    """As a person says it."""
    assert (counted(1, "message"), counted(2_000, "message")) == ("1 message", "2,000 messages")


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [(0, "seconds"), (89, "seconds"), (90, "minutes"), (9e3, "hours"), (3e5, "days")],
)
def test_an_axis_has_a_handy_unit(seconds: float, unit: str) -> None:
    """By the longest that it shows."""
    assert unit_for(seconds)[0] == unit
