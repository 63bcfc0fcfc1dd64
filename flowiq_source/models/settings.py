"""What the models need to know of a business: its time zone, its hours, its holidays."""

import difflib
import functools
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NoReturn, Optional
from zoneinfo import ZoneInfo, available_timezones

from dlt.common.configuration import configspec
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import BaseConfiguration

from flowiq_source.models.calendar import Spans
from flowiq_source.settings import Refused, check_keys, with_place

SECTION = ("sources", "flowiq", "models")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DEFAULT_HOURS = {"mon-fri": "08:00-17:00"}
_EXAMPLE = '{"mon-fri" = "08:00-17:00", "sat" = "09:00-12:00, 22:00-02:00"}, or "24/7"'
_SPAN = re.compile(r"(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)")


@configspec
class ModelSettings(BaseConfiguration):
    """The settings under `sources.flowiq.models`.

    `create` has `flowiq sync` make the models. `time_zone` is a name of the IANA's.
    `business_hours` maps days to spans of local time; one that ends before it begins ends on the
    next day. On `holidays` (ISO dates) no span begins.

    Raises:
        ConfigurationError: one of them is misspelt or cannot be right.
    """

    create: bool = True
    time_zone: str = "UTC"
    business_hours: Optional[Any] = None  # noqa: UP045 - dlt resolves the annotations of its specs
    holidays: Optional[Any] = None  # noqa: UP045

    def on_resolved(self) -> None:
        """Check what can be checked."""
        check_keys(SECTION, self.get_resolvable_fields())
        given = {name: getattr(self, name) for name in self.get_resolvable_fields()}
        try:
            self._check_values()
        except Refused as refused:
            raise with_place(refused, given) from None

    def _check_values(self) -> None:
        if self.time_zone not in _zones():
            near = difflib.get_close_matches(self.time_zone, _zones(), 1)
            _refuse("time_zone", f"is no time zone: did you mean {near[0]}?" if near else _ZONES)
        self.spans, self.days_off = _spans(self.business_hours), _days_off(self.holidays)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def hours_text(self) -> str:
        """The business hours in words."""
        hours = DEFAULT_HOURS if self.business_hours is None else _loaded(self.business_hours)
        if isinstance(hours, str):
            return "around the clock"
        parts = (f"{_day_words(days)} {_text(spans)}" for days, spans in hours.items())
        return "business hours " + ", ".join(parts)


# It looks into hundreds of files.
_zones = functools.cache(available_timezones)
_ZONES = 'is no time zone: it is written like "Africa/Johannesburg"'


def model_settings(**given: Any) -> ModelSettings:
    """The settings as dlt's config has them, but for those that are given."""
    return resolve_configuration(ModelSettings(), sections=SECTION, explicit_value=given or None)


def _refuse(name: str, why: str) -> NoReturn:
    raise Refused(name, why, ".".join(SECTION))


def _loaded(value: Any) -> Any:
    """What an environment variable has as JSON."""
    if isinstance(value, str) and value.strip()[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _spans(value: Any) -> Spans:
    hours = DEFAULT_HOURS if value is None else _loaded(value)
    if hours == "24/7":
        return [[(0, 24 * 60)]] * 7
    if not isinstance(hours, Mapping):
        _refuse("business_hours", f"must be like {_EXAMPLE}")
    week: list[list[tuple[int, int]]] = [[] for _ in DAYS]
    for days, spans in hours.items():
        for day in _days(str(days)):
            week[day] += _minutes(spans)
    return week


def _days(text: str) -> list[int]:
    """The weekdays that a key such as `mon-fri` names; `fri-mon` goes over the weekend."""
    names = [name.strip().lower()[:3] for name in text.split("-")]
    if not 1 <= len(names) <= 2 or not set(names) <= set(DAYS):
        _refuse("business_hours", f"has days {text!r}: they are written like {_EXAMPLE}")
    first, last = DAYS.index(names[0]), DAYS.index(names[-1])
    return [(first + n) % 7 for n in range((last - first) % 7 + 1)]


def _text(spans: Any) -> str:
    return spans if isinstance(spans, str) else ", ".join(map(str, spans))


def _minutes(spans: Any) -> list[tuple[int, int]]:
    found = []
    for text in filter(None, (part.strip() for part in _text(spans).split(","))):
        match = _SPAN.fullmatch(text)
        numbers = [int(group) for group in match.groups()] if match else [99] * 4
        opens, closes = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
        if max(opens, closes) > 24 * 60 or max(numbers[1], numbers[3]) > 59 or opens == closes:
            _refuse("business_hours", f"has the span {text!r}: it is written like {_EXAMPLE}")
        found.append((opens, closes if closes > opens else closes + 24 * 60))
    return found


def _day_words(text: str) -> str:
    return "–".join(name.strip()[:3].title() for name in text.split("-"))


def _days_off(value: Any) -> frozenset[date]:
    days = _loaded(value)
    if days is None:
        return frozenset()
    if not isinstance(days, Sequence) or isinstance(days, str):
        _refuse("holidays", 'must be a list of dates, such as ["2026-12-25"]')
    found = set()
    for day in days:
        try:
            found.add(day if isinstance(day, date) else date.fromisoformat(str(day)))
        except ValueError:
            _refuse("holidays", f'has {day!r}, which is no date such as "2026-12-25"')
    return frozenset(found)
