"""The dlt source: hidden pipes read, the four public resources pick their tables from them.

    contact_pages ─┬─ contacts
                   └─ conversation_reads ─┬─ messages
                                          ├─ conversations
                                          └─ rejected_rows

So whatever is selected, every page is asked for once, and only for what is selected.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import dlt
from dlt.common.configuration.container import Container
from dlt.extract import DltResource
from dlt.extract.exceptions import CurrentSourceNotAvailable
from dlt.extract.incremental import IncrementalResourceWrapper
from dlt.extract.incremental.context import TimeIntervalContext

from flowiq_source import tables
from flowiq_source.client import FlowiqClient, logger
from flowiq_source.errors import ConfigurationError
from flowiq_source.reader import (
    ConversationRead,
    Event,
    Listed,
    Reader,
    Roster,
    conversation_row,
    rejections,
)
from flowiq_source.rows import Mapped, Misfit, only_digits, parse_timestamp
from flowiq_source.settings import PRODUCTION_URL, Settings
from flowiq_source.walk import Cursor

LOOKBACK_DAYS = 7.0

_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


@dlt.source(name="flowiq", section="flowiq", root_key=True, max_table_nesting=2)
def flowiq_source(
    bearer_token: str = dlt.secrets.value,
    tenant_id: str | None = None,
    base_url: str = PRODUCTION_URL,
    *,
    phone_numbers: Sequence[str] | None = None,
    lookback_days: float = LOOKBACK_DAYS,
    start_date: str | datetime | None = None,
    end_date: str | datetime | None = None,
    full_refresh: bool = False,
) -> Sequence[DltResource]:
    """`contacts`, `messages`, `conversations` and `rejected_rows` of one FlowIQ tenant.

    Every argument that is not given comes from dlt's config, `sources.flowiq.…`.

    Args:
        bearer_token: The API key.
        tenant_id: The organisation; sent with every request when it is set.
        base_url: Scheme, host and port of the API.
        phone_numbers: Only these contacts and their conversations, instead of all.
        lookback_days: How far behind a conversation's newest message changes are looked for.
        start_date: With `end_date`, a stateless backfill: messages from then on, ISO 8601, UTC.
        end_date: The backfill ends before this time; left out, when the run starts.
        full_refresh: Read every conversation to its beginning, whatever is known of it.

    Raises:
        ConfigurationError: a setting is missing or cannot be right.
    """
    reader = Reader(
        FlowiqClient(Settings(bearer_token, tenant_id or None, base_url)),
        _lookback(lookback_days),
        _phone_numbers(phone_numbers),
    )
    return resources(reader, _backfill(start_date, end_date), full_refresh=full_refresh)


def resources(
    reader: Reader,
    backfill: tuple[datetime, datetime] | None = None,
    *,
    full_refresh: bool = False,
) -> Sequence[DltResource]:
    """The resources of the source, reading through `reader`; `backfill` is half-open, UTC."""
    picks = _Picks(reader, reader.now(), full_refresh)

    @dlt.resource
    def contact_pages() -> Iterator[Event]:
        yield from reader.contacts()

    @dlt.transformer(data_from=contact_pages)
    def conversation_reads(event: Event) -> Iterator[Event | Callable[[], Event]]:
        yield from picks.reads(event)

    @dlt.transformer(data_from=contact_pages, **tables.CONTACTS)
    def contacts(event: Event) -> Iterator[Any]:
        yield from picks.contacts(event)

    @dlt.transformer(data_from=conversation_reads, **tables.MESSAGES)
    def messages(event: Event) -> Iterator[Any]:
        yield from picks.messages(event)

    @dlt.transformer(data_from=conversation_reads, **tables.CONVERSATIONS)
    def conversations(event: Event) -> Iterator[Any]:
        yield from picks.conversations(event)

    @dlt.transformer(data_from=conversation_reads, **tables.REJECTED_ROWS)
    def rejected_rows(event: Event) -> Iterator[Any]:
        yield from picks.rejected_rows(event)

    if backfill:
        messages.apply_hints(
            incremental=dlt.sources.incremental(
                "timestamp",
                initial_value=backfill[0],
                end_value=backfill[1],
                on_cursor_value_missing="include",
                allow_external_schedulers=False,
            )
        )
    return contacts, messages, conversations, rejected_rows


@dataclass(frozen=True)
class _Picks:
    """What each pipe takes from an event."""

    reader: Reader
    started_at: datetime
    full_refresh: bool

    def reads(self, event: Event) -> Iterator[Event | Callable[[], Event]]:
        yield event
        if isinstance(event, Roster) and _is_selected("messages", "conversations"):
            since, cursors = _backfill_start(), self._cursors()
            for conversation in event.conversations:
                # dlt calls what is callable in its thread pool.
                yield partial(
                    self.reader.conversation,
                    conversation,
                    self.started_at,
                    _load_cursor(cursors.get(conversation.contact_id)),
                    since=since,
                    full=self.full_refresh,
                )

    def contacts(self, event: Event) -> Iterator[Any]:
        metrics = dlt.current.resource_metrics()
        if isinstance(event, Listed):
            _tally(metrics, requests=event.requests, replaced=_replaced(event.contacts))
            yield [mapped.row for mapped in event.contacts]
        if isinstance(event, Roster):
            _tally(metrics, unlisted=event.unlisted)
            metrics["unknown_numbers"] = event.unknown_numbers
            yield dlt.mark.materialize_table_schema()

    def messages(self, event: Event) -> Iterator[Any]:
        if isinstance(event, ConversationRead):
            reading = event.reading
            yield [mapped.row for mapped in reading.mapped]
            if reading.cursor and _backfill_start() is None:
                tenants = dlt.current.resource_state("messages").setdefault("cursors", {})
                cursors = tenants.setdefault(self.reader.tenant_id, {})
                cursors[event.conversation.contact_id] = _dump_cursor(reading.cursor)
        if isinstance(event, Roster):
            yield dlt.mark.materialize_table_schema()

    def conversations(self, event: Event) -> Iterator[Any]:
        if isinstance(event, ConversationRead):
            reading = event.reading
            _tally(
                dlt.current.resource_metrics(),
                requests=event.requests,
                newer=reading.newer,
                replaced=_replaced(reading.mapped),
                **{reading.status: 1},
            )
            if reading.status == "failed":
                logger.error("one conversation failed: %s", reading.error)
            # A backfill sees a part; only its failures say something of the whole.
            if reading.status == "failed" or _backfill_start() is None:
                yield [conversation_row(event, self.reader.tenant_id)]
        if isinstance(event, Roster):
            yield dlt.mark.materialize_table_schema()

    def rejected_rows(self, event: Event) -> Iterator[Any]:
        rows = rejections(event, self.reader.tenant_id, self.reader.now())
        if rows:
            logger.warning("%d values did not fit their column: see rejected_rows", len(rows))
            yield rows
        if isinstance(event, Roster):
            yield dlt.mark.materialize_table_schema()

    def _cursors(self) -> dict[str, Any]:
        """Contact id → cursor, in the state of `messages`: it is committed with the rows."""
        tenants: dict[str, dict[str, Any]]
        tenants = dlt.current.resource_state("messages").get("cursors", {})
        return tenants.get(self.reader.tenant_id, {})


def _lookback(days: float) -> timedelta:
    try:
        if days >= 0:
            return timedelta(days=days)
    except OverflowError:
        pass
    raise ConfigurationError("sources.flowiq.lookback_days must be a number of days, 0 or more")


def _phone_numbers(numbers: Sequence[str] | None) -> list[str] | None:
    if numbers is None:
        return None
    if isinstance(numbers, str):
        raise ConfigurationError("sources.flowiq.phone_numbers must be a list of texts")
    digits = [only_digits(str(number)) for number in numbers]
    if "" in digits:
        raise ConfigurationError(
            f"sources.flowiq.phone_numbers: number {digits.index('') + 1} of {len(digits)} "
            "has no digits"
        )
    return digits


def _backfill(
    start: str | datetime | None, end: str | datetime | None
) -> tuple[datetime, datetime] | None:
    """The half-open range of a backfill; None for an incremental sync."""
    if start is None and end is None:
        scheduler = Container()[TimeIntervalContext]
        interval = scheduler.interval if scheduler.allow_external_schedulers else None
        return (interval.start, interval.end) if interval else None
    first = _BEGINNING if start is None else _date("start_date", start)
    last = datetime.now(timezone.utc) if end is None else _date("end_date", end)
    if first >= last:
        raise ConfigurationError("sources.flowiq.start_date must be before end_date")
    return first, last


def _date(name: str, value: str | datetime) -> datetime:
    try:
        return parse_timestamp(value.isoformat() if isinstance(value, datetime) else value)
    except Misfit:
        raise ConfigurationError(
            f"sources.flowiq.{name} is no ISO 8601 time such as 2025-01-31 or 2025-01-31T12:00:00Z"
        ) from None


def _is_selected(*names: str) -> bool:
    """Whether any of the resources is to be loaded; one that is iterated by itself is."""
    try:
        return bool(set(names) & set(dlt.current.source().selected_resources))
    except CurrentSourceNotAvailable:
        return True


def _backfill_start() -> datetime | None:
    """Where the bounds on `messages` begin, whoever set them; None for an incremental sync.

    Raises:
        ConfigurationError: a dlt incremental without an end, which would drop older conversations.
    """
    try:
        bounds: Any = dlt.current.source().resources["messages"].incremental
    except CurrentSourceNotAvailable:
        return None
    if isinstance(bounds, IncrementalResourceWrapper):
        bounds = bounds.incremental
    if bounds is None:
        return None
    if bounds.end_value is None:
        raise ConfigurationError(
            "dlt.sources.incremental on messages needs an end_value: with one shared cursor the "
            "conversations that are not the newest would lose messages. Without any, every "
            "conversation has its own cursor"
        )
    start: datetime = bounds.initial_value or _BEGINNING
    return start if start.tzinfo else start.replace(tzinfo=timezone.utc)


def _dump_cursor(cursor: Cursor) -> list[int | None]:
    """Epoch microseconds, count, epoch microseconds: the state of 100,000 must stay small."""
    newest = None if cursor.newest is None else (cursor.newest - _EPOCH) // _MICROSECOND
    return [newest, cursor.known, (cursor.rescanned_at - _EPOCH) // _MICROSECOND]


def _load_cursor(state: list[int | None] | None) -> Cursor | None:
    if state is None:
        return None
    newest, known, rescanned_at = state
    return Cursor(
        None if newest is None else _EPOCH + newest * _MICROSECOND,
        known or 0,
        _EPOCH + (rescanned_at or 0) * _MICROSECOND,
    )


def _tally(metrics: dict[str, Any], **amounts: int) -> None:
    for name, amount in amounts.items():
        metrics[name] = metrics.get(name, 0) + amount


def _replaced(mapped: list[Mapped]) -> int:
    return sum(m.replaced for m in mapped)
