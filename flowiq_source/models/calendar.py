"""The business calendar: all time cut into pieces, each on one local day, open or closed. Pure.

A message finds its piece, and with it its local day and hour and how many business seconds there
were before. So no SQL has to know of time zones: both changes of the clock, hours past midnight,
holidays and round-the-clock service are right in every dialect.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY_S = 86_400
_MINUTES = 24 * 60

Spans = Sequence[Sequence[tuple[int, int]]]
"""For each weekday from Monday on, the spans that begin on it: minutes after local midnight. The
second is above 1,440 where a span ends on the next day."""


class Piece(NamedTuple):
    """A piece of time; `_s` are seconds since 1970, but for `local_begins_s`."""

    utc_day: int
    """Days since 1970, UTC."""
    begins_s: int
    ends_s: int
    local_date: date
    local_weekday: int
    """1 is Monday."""
    local_begins_s: int
    """Seconds since local midnight by the clock on the wall."""
    utc_offset_s: int
    is_open: bool
    open_s_before: int
    """Business seconds between the calendar's beginning and that of the piece."""


def calendar(
    zone: ZoneInfo, hours: Spans, holidays: frozenset[date], first: date, last: date
) -> Iterator[Piece]:
    """The pieces of the UTC days from `first` to the one before `last`."""
    begins, ends = _epoch(first), _epoch(last)
    open_spans = _open_spans(zone, hours, holidays, first, last)
    marks = {at for span in open_spans for at in span if begins < at < ends}
    marks |= {at for at in _local_midnights(zone, first, last) if begins < at < ends}
    marks |= set(_offset_changes(zone, begins, ends)) | set(range(begins, ends + 1, DAY_S))
    cuts, open_s, place = sorted(marks), 0, 0
    for at, end in pairwise(cuts):
        while place < len(open_spans) and open_spans[place][1] <= at:
            place += 1
        is_open = place < len(open_spans) and open_spans[place][0] <= at
        local = datetime.fromtimestamp(at, zone)
        yield Piece(
            at // DAY_S,
            at,
            end,
            local.date(),
            local.isoweekday(),
            local.hour * 3600 + local.minute * 60 + local.second,
            _offset_s(zone, at),
            is_open,
            open_s,
        )
        open_s += (end - at) * is_open


def _epoch(day: date) -> int:
    return int(datetime.combine(day, time(), timezone.utc).timestamp())


def _offset_s(zone: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _instant(zone: ZoneInfo, day: date, minutes: int, *, fold: int) -> int:
    """When the clock on the wall says so; where it says so twice, `fold` decides.

    Where it never says so, because it was put forward, when that was done.
    """
    days, minutes = divmod(minutes, _MINUTES)
    at = datetime.combine(day + timedelta(days=days), time(minutes // 60, minutes % 60), zone)
    first, second = (int(at.replace(fold=n).timestamp()) for n in (0, 1))
    if second < first:
        return _change(zone, second, first)
    return (first, second)[fold]


def _local_midnights(zone: ZoneInfo, first: date, last: date) -> Iterator[int]:
    for n in range(-1, (last - first).days + 2):
        for fold in (0, 1):
            yield _instant(zone, first + timedelta(days=n), 0, fold=fold)


def _open_spans(
    zone: ZoneInfo, hours: Spans, holidays: frozenset[date], first: date, last: date
) -> list[tuple[int, int]]:
    """When business is done, without overlaps, in order. No span begins on a holiday."""
    spans: list[tuple[int, int]] = []
    for n in range(-2, (last - first).days + 2):
        day = first + timedelta(days=n)
        for opens, closes in () if day in holidays else sorted(hours[day.weekday()]):
            span = _instant(zone, day, opens, fold=0), _instant(zone, day, closes, fold=1)
            if spans and span[0] <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(spans[-1][1], span[1])
            elif span[0] < span[1]:
                spans.append(span)
    return spans


def _offset_changes(zone: ZoneInfo, begins: int, ends: int) -> Iterator[int]:
    """The instants from which on the zone has another offset."""
    for at in range(begins, ends, DAY_S):
        if _offset_s(zone, at) != _offset_s(zone, at + DAY_S):
            yield _change(zone, at, at + DAY_S)


def _change(zone: ZoneInfo, low: int, high: int) -> int:
    """The instant at which the zone's offset is first another than at `low`."""
    before = _offset_s(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset_s(zone, middle) == before else (low, middle)
    return high
