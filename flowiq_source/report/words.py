"""Numbers, durations and dates as a person writes them."""

from datetime import date, datetime, tzinfo
from typing import Any

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

NBSP = "\u00a0"

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def number(value: Any) -> str:
    """A whole number; nothing there is a dash, never a zero."""
    return "–" if value is None else f"{int(value):,}"


def share(part: int, whole: int) -> str:
    """A part of a hundred; a dash where there is no whole."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    exact = 0 < percent < 10 or 99 < percent < 100
    return f"{percent:.{int(exact)}f}{NBSP}%"


def duration(seconds: float | None) -> str:
    """The two largest units: `2 h 10 min`; the largest alone from ten minutes and ten days on."""
    if seconds is None:
        return "–"
    left = round(float(seconds))
    if left == 0:
        return f"0{NBSP}s" if seconds == 0 else f"under 1{NBSP}s"
    first = next(n for n, (size, _) in enumerate(_UNITS) if left >= size)
    size, unit = _UNITS[first]
    alone = first == len(_UNITS) - 1 or (unit in {"min", "d"} and left >= 10 * size)
    step = size if alone else _UNITS[first + 1][0]
    left = round(left / step) * step
    parts = []
    for one, name in _UNITS:
        count, left = divmod(left, one)
        parts += [f"{count}{NBSP}{name}"] * bool(count)
    return NBSP.join(parts)


def unit_for(seconds: float) -> tuple[str, int]:
    """The unit in which the longest of some durations is a handy number, and its seconds."""
    for size, name in ((2 * 86_400, "days"), (5_400, "hours"), (90, "minutes")):
        if seconds >= size:
            return name, {"days": 86_400, "hours": 3_600, "minutes": 60}[name]
    return "seconds", 1


def day(value: date) -> str:
    """`3 March 2026`."""
    return f"{value.day} {value:%B %Y}"


def moment(value: datetime | None, zone: tzinfo) -> str:
    """`3 March 2026, 10:00`, in the zone."""
    if value is None:
        return "never"
    local = value.astimezone(zone)
    return f"{day(local.date())}, {local:%H:%M}"


def short_moment(value: datetime | None, zone: tzinfo) -> str:
    """`3 Mar, 10:00`, in the zone."""
    if value is None:
        return "–"
    local = value.astimezone(zone)
    return f"{local.day}{NBSP}{local:%b},{NBSP}{local:%H:%M}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 message`, `2 messages`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
