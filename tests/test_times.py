"""Times in every form in which an API may write them."""

import contextlib
import math
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowiq_source.times import from_microseconds, microseconds, parse_timestamp

AT = datetime(2026, 3, 2, 8, tzinfo=timezone.utc)
SECONDS = 1772438400

TIMES: list[tuple[datetime, list[object]]] = [
    (AT, ["2026-03-02T08:00:00", "2026-03-02 10:00:00+02:00", "2026-03-02T08:00:00.000Z"]),
    (AT, ["2026-03-02T10:00+0200", "2026-03-02T08", "2026-03-02t08:00z", "2026-03-02T0800Z"]),
    (AT, ["2026-03-02 08:00:00+00", "2026-03-02 10:00:00 +02:00", " 2026-03-02T08:00:00Z "]),
    (AT, [SECONDS, SECONDS * 10**3, SECONDS * 10**6, SECONDS * 10**9, str(SECONDS)]),
    (AT.replace(hour=0), ["2026-03-02"]),
    (AT.replace(microsecond=123456), ["2026-03-02T08:00:00.123456789Z", SECONDS + 0.123456]),
    (AT.replace(microsecond=120000), ["2026-03-02T08:00:00.12Z", "2026-03-02T08:00:00,12Z"]),
    (datetime.min.replace(tzinfo=timezone.utc), ["0001-01-01T00:00:00Z"]),
    (datetime.max.replace(tzinfo=timezone.utc), ["9999-12-31T23:59:59.999999999Z"]),
    (datetime(1969, 12, 31, 23, 59, 59, tzinfo=timezone.utc), [-1]),
]


@pytest.mark.parametrize(("time", "value"), [(time, v) for time, values in TIMES for v in values])
def test_a_time_is_utc_to_the_microsecond(time: datetime, value: object) -> None:
    """ISO 8601 with any zone or none and epochs in every unit become UTC."""
    parsed = parse_timestamp(value)
    assert (parsed, parsed.tzinfo) == (time, timezone.utc)
    assert from_microseconds(microseconds(parsed)) == time


@pytest.mark.parametrize(
    "value",
    [
        "",
        "08:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "0000-01-01",
        "2026-02-30",
        "2026-03-02T24:00:00Z",
        "2026-03-02T08:00:60Z",
        "2026-03-02T08:00:00+24:00",
        "26-03-02",
        "2026-3-2",
        "02-03-2026",
        "2026-03-02T8:00",
        "2026-03-02T08:00:00+2",
        "20260302",
        "20260302T080000Z",
        "2026-W10-1",
        "2026-03-02/P1D",
        "٢٠٢٦-٠٣-٠٢",
        "26",
        "yesterday",
        "9" * 5_000,
        math.nan,
        -math.inf,
        10**300,
        True,
        None,
        [],
    ],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    """Times of day, days that do not exist, years that UTC does not have, numbers cut short."""
    with pytest.raises(ValueError, match="no time between the years 1 and 9999"):
        parse_timestamp(value)


@given(local=st.datetimes(), minutes=st.integers(-24 * 60 + 1, 24 * 60 - 1))
def test_any_time_survives_its_text(local: datetime, minutes: int) -> None:
    """A time with any offset comes back as the same time, or is outside the years of UTC."""
    time = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    try:
        expected = time.astimezone(timezone.utc)
    except OverflowError:
        with pytest.raises(ValueError, match="no time"):
            parse_timestamp(time.isoformat())
    else:
        assert parse_timestamp(time.isoformat()) == expected


@example(text="2026-03-02/08:00:00")
@given(text=st.from_regex(r"\A2026-03-0[0-9][T /][0-9:.+Z/PDW-]{0,12}\Z"))
def test_a_text_is_a_time_or_refused(text: str) -> None:
    """A text that begins like a time and goes on in another way raises nothing but ValueError."""
    with contextlib.suppress(ValueError):
        assert parse_timestamp(text).tzinfo is timezone.utc
