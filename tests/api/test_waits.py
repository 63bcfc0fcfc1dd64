"""Headers say how long to wait in many forms; what cannot be read is ignored and never raises."""

import time
from datetime import datetime, timezone
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowiq_source.api.waits import LONGEST_WAIT_S, quota_of, wait_asked

NOW = 1_800_000_000
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


def at(wait_s: float) -> str:
    """The HTTP date so many seconds after `DATE`."""
    return formatdate(NOW + wait_s, usegmt=True)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("0", 0.0),
        ("41", 41.0),
        (" 41 ", 41.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("300", 300.0),
        ("301", 300.0),
        ("86400", 300.0),
        ("9" * 400, 300.0),
        ("9" * 5000, 300.0),
        (at(41), 41.0),
        ("Friday, 15-Jan-27 08:00:41 GMT", 41.0),
        ("Fri Jan 15 08:00:41 2027", 41.0),
        ("2027-01-15T08:00:41Z", 41.0),
        (at(-41), 0.0),
        (at(86400), 300.0),
        ("5, 10", 10.0),
    ],
)
def test_retry_after_is_read_in_every_form_and_capped(text: str, wait_s: float) -> None:
    """Seconds, decimals and dates, of which none holds for more than 300 s."""
    assert wait_asked({"retry-after": text, "date": DATE}) == pytest.approx(wait_s)


UNREADABLE = [
    "",
    " ",
    "²",
    "٤١",
    "४१",
    "-1",
    "-0.5",
    "+5",
    "NaN",
    "nan",
    "Infinity",
    "inf",
    "1e3",
    "0x10",
    "soon",
    "5, soon",
    "1.2.3",
    "5\n5",
    "Fri, 15 Jan 99999 08:00:00 GMT",
    f"Fri, 15 Jan {'9' * 400} 08:00:00 GMT",
    "Fri, 99 Jan 2027 08:00:00 GMT",
    "Fri, 15 Jan 2027 08:00:00 +9999999999",
    "2027-13-15T08:00:00Z",
    "2027-01-15T08:00:00+99:99",
    "\ud800",
    "\x00",
]


@pytest.mark.parametrize("text", UNREADABLE)
@pytest.mark.parametrize("name", ["retry-after", "x-ratelimit-reset"])
def test_what_cannot_be_read_is_ignored(name: str, text: str) -> None:
    """It asks for nothing."""
    said = {name: text, "date": DATE}
    # Of two values the first counts for a reset; both must be numbers for Retry-After.
    expected = 5.0 if (name, text) == ("x-ratelimit-reset", "5, soon") else None
    assert wait_asked(said) == expected


@pytest.mark.parametrize(
    "reset",
    [
        str(NOW + 41),
        f"{NOW + 41}.0",
        f"{NOW + 41}000",
        f"{NOW + 41}000000",
        f"{NOW + 41}000000000",
        "41",
        "41.0",
        "41, 41",
        "41;w=60",
        at(41),
        "2027-01-15T08:00:41Z",
        "2027-01-15t08:00:41z",
        "2027-01-15T08:00:41.000Z",
        "2027-01-15T08:00:41.000000+00:00",
        "2027-01-15T10:00:41+02:00",
        "2027-01-15T10:00:41+0200",
        "2027-01-15T03:00:41-05",
        "2027-01-15T08:00:41",
        "2027-01-15 08:00:41",
        "20270115T080041Z",
    ],
)
@pytest.mark.parametrize("years", [-6, 0, 30])
def test_a_reset_is_read_in_every_form_by_the_servers_clock(reset: str, years: int) -> None:
    """However far off ours is: the server's own date stands beside it."""
    then, there = str(2027 + years), {"x-ratelimit-remaining": "0"}
    if reset.startswith(str(NOW)[:6]):
        moved_s = int(datetime(2027 + years, 1, 15, 8, tzinfo=timezone.utc).timestamp()) - NOW
        reset = reset.replace(str(NOW + 41), str(NOW + 41 + moved_s))
    date = DATE.replace("2027", then)
    assert wait_asked(
        there | {"date": date, "x-ratelimit-reset": reset.replace("2027", then)}
    ) == pytest.approx(41.0)


@pytest.mark.parametrize("date", ["", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", *UNREADABLE])
def test_without_a_date_that_can_be_our_clock_counts(date: str) -> None:
    """A date of 1970 is a server without a clock."""
    said = {"date": date, "x-ratelimit-reset": str(time.time() + 41)}
    assert wait_asked(said) == pytest.approx(41, abs=5)


@pytest.mark.parametrize(
    ("reset", "wait_s"),
    [
        (str(NOW - 5), 0.0),
        (str(NOW + 1800), LONGEST_WAIT_S),
        (str(NOW + 86400 * 365), None),
        (str(NOW - 86400), None),
        ("86400", None),
        ("9" * 400, None),
        ("0", 0.0),
    ],
)
def test_a_reset_that_cannot_be_is_ignored(reset: str, wait_s: float | None) -> None:
    """A limit of a minute is not renewed in a year, and not believed for more than 300 s."""
    assert wait_asked({"date": DATE, "x-ratelimit-reset": reset}) == wait_s


def test_a_reset_asks_for_nothing_while_requests_are_left() -> None:
    """But Retry-After does."""
    said = {"date": DATE, "x-ratelimit-reset": "41", "x-ratelimit-remaining": "7"}
    assert wait_asked(said) is None
    assert wait_asked(said | {"retry-after": "3"}) == 3.0
    assert wait_asked(said | {"retry-after": "soon", "x-ratelimit-remaining": "0"}) == 41.0


@pytest.mark.parametrize("limit", ["0", "-1", "1e9", "1000001", "9" * 5000, *UNREADABLE])
def test_a_limit_that_cannot_be_is_ignored(limit: str) -> None:
    """What is left is read all the same."""
    quota = quota_of({"x-ratelimit-limit": limit, "x-ratelimit-remaining": "7"})
    assert (quota.per_minute, quota.left) == (5.0 if limit == "5, soon" else None, 7)


NAMES = ["retry-after", "date", *(f"x-ratelimit-{n}" for n in ("limit", "remaining", "reset"))]


ODD = st.text(st.sampled_from("0123456789.,:;+-TZ GMTJanFri\u00b2\u0664\x00")) | st.text(
    max_size=20
)


@given(st.dictionaries(st.sampled_from(NAMES), ODD))
def test_no_headers_raise(headers: dict[str, str]) -> None:
    """Whatever they hold, the wait is none or 0 to 300 s."""
    wait_s = wait_asked(headers)
    assert wait_s is None or 0 <= wait_s <= LONGEST_WAIT_S
