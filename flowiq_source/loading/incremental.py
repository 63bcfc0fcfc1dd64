"""The incremental hint on `messages.timestamp`: what bounds a run, and what must not."""

import os
from datetime import date, datetime
from typing import Any, ClassVar

import dlt
from dlt.common.utils import str2bool
from dlt.extract import DltResource
from dlt.extract.incremental import IncrementalResourceWrapper

from flowiq_source.errors import ConfigurationError
from flowiq_source.settings import Settings
from flowiq_source.times import BEGINNING, parse_timestamp

_RANGE = "the range of messages.timestamp"


class ConversationIncremental(dlt.sources.incremental[datetime]):
    """dlt's incremental, whose one cursor filters nothing unless a range is given.

    Every conversation has a cursor of its own: with one for all, the conversations that are not the
    newest would lose messages. `lag` is the lookback of each of those cursors, in seconds.
    """

    is_set: ClassVar[bool] = False
    """Whether the range is that of `start_date` and `end_date`."""
    _before: ClassVar[tuple[Any, Any, Any] | None] = None
    """The range and the lag before the interval of an orchestrator took their place."""

    def bind(self, pipe: Any) -> "ConversationIncremental":
        """The hint for one extract, with the interval of an orchestrator where that is wanted.

        The environment is read here, because dlt 1.30 does not and 1.31 does once a process.
        """
        if self._before:
            self.initial_value, self.end_value, self.lag = self._before
        before = self.initial_value, self.end_value, self.lag
        wanted = self.allow_external_schedulers
        if self.is_set:
            self.allow_external_schedulers = False
        elif _wants_interval():
            self.allow_external_schedulers = True
        super().bind(pipe)
        self.allow_external_schedulers = wanted
        if self.is_set:
            # Dates that were set are not to be clipped, as dlt 1.30 does all the same.
            self.initial_value, self.end_value, self.lag = before
        self._before = before  # type: ignore[misc]
        return self

    def __call__(self, rows: Any, meta: Any = None) -> Any:
        """The rows of the range; all of them where there is none."""
        return rows if self.end_value is None else super().__call__(rows, meta)


def incremental_of(settings: Settings, now: datetime) -> ConversationIncremental:
    """The hint for a sync, or for a backfill of the dates that are set."""
    start, end = settings.start_date, settings.end_date
    hint = ConversationIncremental(
        "timestamp",
        lag=settings.lookback.total_seconds(),
        on_cursor_value_missing="include",
        primary_key=(),
    )
    if start is not None or end is not None:
        hint.initial_value = start or BEGINNING
        hint.end_value = end or now
        if hint.initial_value >= hint.end_value:
            raise ConfigurationError("sources.flowiq.start_date is in the future")
        hint.is_set = True  # type: ignore[misc]
    return hint


def may_be_bounded(messages: DltResource) -> bool:
    """Whether a range on `messages` is set, or may come from an orchestrator."""
    hint = _hint_of(messages)
    if not isinstance(hint, ConversationIncremental) or hint.end_value is not None:
        return hint is not None
    wanted = hint.allow_external_schedulers or _wants_interval()
    return bool(wanted)


def backfill_start(messages: DltResource) -> datetime | None:
    """Where the range on `messages` begins, whoever set it; None for an incremental sync.

    Its ends become UTC times, so that dlt compares them with the rows' times.

    Raises:
        ConfigurationError: the range is empty, or has no end.
    """
    hint = _hint_of(messages)
    if hint is None:
        return None
    if hint.end_value is None:
        if isinstance(hint, ConversationIncremental):
            return None
        raise ConfigurationError(
            "dlt.sources.incremental on messages needs an end_value: with one shared cursor the "
            "conversations that are not the newest would lose messages. Without any, every "
            "conversation has its own cursor; to begin somewhere, set sources.flowiq.start_date"
        )
    if hint.cursor_path != "timestamp" or hint.last_value_func is not max:
        raise ConfigurationError(
            f"{_RANGE} is the only one that messages can be read by: its cursor_path is "
            '"timestamp", and its last_value_func max'
        )
    start, end = _utc(hint.initial_value), _utc(hint.end_value)
    if start >= end:
        raise ConfigurationError(
            f"{_RANGE}, from {start.isoformat()} to {end.isoformat()}, is empty: the end is not "
            "part of it. In Airflow 3, @daily has an empty data interval: "
            "use CronDataIntervalTimetable"
        )
    hint.initial_value = hint.start_value = start
    hint.end_value = end
    hint.on_cursor_value_missing = "include"
    # One conversation comes after the other: an order over all rows would end with the first.
    hint.row_order = None
    # dlt does not apply it to a range, and yet compares the bound as it was given.
    hint.lag = None
    return start


def _hint_of(messages: DltResource) -> Any:
    hint: Any = messages.incremental
    return hint.incremental if isinstance(hint, IncrementalResourceWrapper) else hint


def _wants_interval() -> bool:
    return str2bool(os.environ.get("DLT_ALLOW_EXTERNAL_SCHEDULERS") or "no")


def _utc(value: Any) -> datetime:
    """A bound as dlt takes it: a text, a date, or a time of any library's."""
    if value is None:
        return BEGINNING
    try:
        return parse_timestamp(value.isoformat() if isinstance(value, date) else value)
    except ValueError:
        raise ConfigurationError(
            f"{_RANGE}: a bound is no ISO 8601 time such as 2025-01-31 or 2025-01-31T12:00:00Z"
        ) from None
