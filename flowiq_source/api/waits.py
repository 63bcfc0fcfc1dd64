"""What the headers of an answer say about waiting; unreadable ones say nothing, and none raises.

Source: FlowIQ API reference, "Rate limits": `X-RateLimit-Limit`, `-Remaining` and `-Reset` (epoch
seconds). Other forms are read too, because the API's own pages contradict each other and a proxy
may answer in its place. Names of headers are in lower case.
"""

import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

LONGEST_WAIT_S = 300.0
"""No header is believed for longer; the limit is one of a minute."""

PLAUSIBLE_S = 3600.0
"""A reset further away than this, before or after, is a clock gone wrong or another unit."""

MOST_PER_MINUTE = 1_000_000
"""A higher limit is no limit that anybody sets."""

_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*", re.ASCII)
# A second value behind a comma is a header sent twice, or another window's.
_FIRST_NUMBER = re.compile(_NUMBER.pattern + r"(?:[,;].*)?", re.ASCII | re.DOTALL)
_ISO = re.compile(
    r"\s*(\d{4})-?(\d\d)-?(\d\d)[T ](\d\d):?(\d\d)(?::?(\d\d))?([.,]\d{1,9})?"
    r"\s*(Z|[+-]\d\d(?::?\d\d)?)?\s*",
    re.ASCII | re.IGNORECASE,
)
_UNITS = (1.0, 1e3, 1e6, 1e9)


class Quota(NamedTuple):
    """What an answer says about the limit; None for what it does not say."""

    per_minute: float | None
    left: int | None
    reset_s: float | None
    """Seconds until there are new requests, 0..300."""
    reset: str
    """The same as it was sent: equal texts mean the same moment."""


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, 0..300; None if it does not ask.

    `Retry-After` counts on every answer, the reset where nothing is left.
    """
    asked = retry_after(headers)
    if asked is not None:
        return asked
    quota = quota_of(headers)
    return None if quota.left else quota.reset_s


def quota_of(headers: Mapping[str, str]) -> Quota:
    """The limit, what is left of it and when it is renewed, as far as that can be read."""
    limit, left = (
        _first_number(_said(headers, f"x-ratelimit-{n}")) for n in ("limit", "remaining")
    )
    return Quota(
        limit if limit and 1 <= limit <= MOST_PER_MINUTE else None,
        # More than any limit says no less than that there is enough.
        None if left is None else int(min(left, MOST_PER_MINUTE)),
        _reset_s(headers),
        _said(headers, "x-ratelimit-reset"),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks to wait, 0..300; the longest if there are several."""
    text = _said(headers, "retry-after")
    if not text:
        return None
    seconds = [_number(part) for part in text.split(",")]
    if None not in seconds:
        return min(max(filter(None, seconds), default=0.0), LONGEST_WAIT_S)
    until = _date(text)
    return None if until is None else _within(until - _now(headers))


def _reset_s(headers: Mapping[str, str]) -> float | None:
    text = _said(headers, "x-ratelimit-reset")
    number, now = _first_number(text), _now(headers)
    if number is None:
        until = _date(text)
        return None if until is None else _plausible(until - now)
    for unit in _UNITS:
        wait_s = _plausible(number / unit - now)
        if wait_s is not None:
            return wait_s
    return _plausible(number)


def _plausible(wait_s: float) -> float | None:
    return _within(wait_s) if abs(wait_s) <= PLAUSIBLE_S else None


def _within(wait_s: float) -> float:
    return min(max(0.0, wait_s), LONGEST_WAIT_S)


def _now(headers: Mapping[str, str]) -> float:
    """The server's time where it says one that can be, because ours may be years off."""
    said = _date(_said(headers, "date"))
    return time.time() if said is None else said


def _said(headers: Mapping[str, str], name: str) -> str:
    # No date and no number is longer; a text of megabytes is not worth a look.
    return (headers.get(name) or "")[:10_000]


def _number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text)
    return float(match[1]) if match else None


def _first_number(text: str) -> float | None:
    match = _FIRST_NUMBER.fullmatch(text)
    return float(match[1]) if match else None


@lru_cache(maxsize=64)  # the same one for a second, and dear to read
def _date(text: str) -> float | None:
    """Epoch seconds of an HTTP or ISO 8601 date between 2020 and 2100; without a zone it is UTC."""
    try:
        match = _ISO.fullmatch(text)
        date = _iso_date(match) if match else parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
        return date.timestamp() if 2020 <= date.year < 2100 else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _iso_date(match: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    zone = (zone or "Z").upper().replace("Z", "+0000").replace(":", "")
    text = f"{year}{month}{day}{hour}{minute}{second or '00'}{zone:0<5}"
    date = datetime.strptime(text, "%Y%m%d%H%M%S%z")
    return date.replace(microsecond=int(float(f"0.{(fraction or '.0')[1:]}") * 1e6))
