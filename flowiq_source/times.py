"""Times: the clock, ISO 8601 and epochs as UTC, and epoch microseconds. Pure but for `utc_now`."""

import re
from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)

BEGINNING = datetime.min.replace(tzinfo=timezone.utc)
"""Before every time."""


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(timezone.utc)


def as_utc(value: datetime | str) -> datetime:
    """A time as a destination gives it: aware, or UTC without saying so, perhaps as text."""
    time = parse_timestamp(value) if isinstance(value, str) else value
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def microseconds(time: datetime) -> int:
    """Epoch microseconds of a UTC time."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(time: int) -> datetime:
    """The UTC time of epoch microseconds."""
    return _EPOCH + time * _MICROSECOND


EARLIEST = microseconds(datetime.min.replace(tzinfo=timezone.utc))
LATEST = microseconds(datetime.max.replace(tzinfo=timezone.utc))

# Digits are ASCII, and as many as ISO 8601 asks for: 26-1-1 could be three different days.
_ISO = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<hour>[0-9]{2})(?::?(?P<minute>[0-9]{2})"
    r"(?::?(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?)?"
    r" ?(?:[Zz]|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3])"
    r"(?::?(?P<minutes>[0-5][0-9])(?::?(?P<seconds>[0-5][0-9]))?)?)?)?"
)
# Seconds until the year 5138; larger numbers can only be milli-, micro- or nanoseconds.
_EPOCH_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
# Digits of seconds, milli-, micro- and nanoseconds; 14 would be a compact date.
_EPOCH_TEXT = re.compile("[0-9]{9,10}|[0-9]{12,13}|[0-9]{16}|[0-9]{19}")


def parse_timestamp(value: object) -> datetime:
    """A UTC time from ISO 8601 text or from epoch seconds, milli-, micro- or nanoseconds.

    Text without a zone is UTC; finer fractions than microseconds are cut off.

    Raises:
        ValueError: it is neither, or outside the years 1 to 9999 in UTC.
    """
    try:
        if isinstance(value, str):
            return _from_text(value.strip())
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _from_epoch(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError("no time between the years 1 and 9999")


def _from_text(text: str) -> datetime:
    if _EPOCH_TEXT.fullmatch(text):
        return _from_epoch(int(text))
    iso = _ISO.fullmatch(text)
    if iso is None:
        raise ValueError
    micros = int((iso["fraction"] or "")[:6].ljust(6, "0"))
    day = datetime.fromisoformat(f"{iso['date']}T00:00:00+00:00")
    hour, minute, second = (int(iso[part] or 0) for part in ("hour", "minute", "second"))
    local = day.replace(hour=hour, minute=minute, second=second, microsecond=micros)
    hours, minutes, seconds = (int(iso[part] or 0) for part in ("hours", "minutes", "seconds"))
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return local + offset if iso["sign"] == "-" else local - offset


def _from_epoch(value: float) -> datetime:
    for limit, per_unit in _EPOCH_UNITS:
        if abs(value) < limit:
            return from_microseconds(round(value * per_unit))
    return from_microseconds(int(value) // 1000)
