"""The dlt source: hidden pipes read, the four public resources pick their tables from them.

    contact_pages ─┬─ contacts
                   └─ conversation_reads ─┬─ messages
                                          ├─ conversations
                                          └─ rejected_rows

So whatever is selected, every page is asked for once, and only for what is selected.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import dlt
from dlt.common.configuration.container import Container
from dlt.extract import DltResource
from dlt.extract.exceptions import CurrentSourceNotAvailable
from dlt.extract.incremental import IncrementalResourceWrapper
from dlt.extract.incremental.context import TimeIntervalContext

from flowiq_source.api.client import FlowiqClient, logger
from flowiq_source.api.in_flight import ReadAhead, Task
from flowiq_source.errors import ConfigurationError
from flowiq_source.loading import tables
from flowiq_source.loading.state import OpenRun, TenantState, to_the_millisecond
from flowiq_source.reading.reader import (
    ConversationRead,
    Due,
    Event,
    Listed,
    Reader,
    Reads,
    Roster,
    conversation_row,
    rejections,
)
from flowiq_source.reading.schedule import Budget, Rules, Schedule, make_schedule
from flowiq_source.rows.convert import Misfit, only_digits, parse_timestamp
from flowiq_source.settings import PRODUCTION_URL, REQUESTS_PER_MINUTE, Settings, pages_of

LOOKBACK_DAYS = 7.0

RESUME_WITHIN = timedelta(hours=24)
"""A run goes on with one that was interrupted, unless that began longer ago."""

_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Limits:
    """What one run may spend.

    Raises:
        ConfigurationError: a limit cannot be kept.
    """

    max_requests: int | None = None
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"sources.flowiq.{name} must be above 0")

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return self.max_requests is not None or self.max_minutes is not None

    def budget(self, now_s: float) -> Budget:
        """A run's budget, from now on."""
        minutes = self.max_minutes
        return Budget(self.max_requests, None if minutes is None else now_s + minutes * 60)

    def check(self, contact_pages: int) -> None:
        """Refuse a limit that leaves nothing for conversations, before more is spent."""
        if self.max_requests is not None and self.max_requests <= contact_pages:
            raise ConfigurationError(
                f"sources.flowiq.max_requests is {self.max_requests}, and the contact list alone "
                f"costs {contact_pages}: allow more, so that conversations can be read"
            )


_NO_LIMITS = Limits()


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
    rescan_share: float = 0.0,
    requests_per_minute: float = REQUESTS_PER_MINUTE,
    rate_limit_share: float = 1.0,
    max_requests: int | None = None,
    max_minutes: float | None = None,
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
        rescan_share: So many more requests, as a share of a sync's own, for reading the
            conversations to their beginning whose last such reading is longest ago.
        requests_per_minute: What the account allows; kept to by the whole process.
        rate_limit_share: How much of that to use; the rest is left to other programs.
        max_requests: What a run may spend; the conversations that it leaves are read by the next.
        max_minutes: After how long a run begins no more conversations.

    Raises:
        ConfigurationError: a setting is missing or cannot be right.
    """
    reader = Reader(
        FlowiqClient(
            Settings(bearer_token, tenant_id, base_url, requests_per_minute, rate_limit_share)
        ),
        _lookback(lookback_days),
        _phone_numbers(phone_numbers),
    )
    backfill = _backfill(start_date, end_date, reader.now(), full_refresh=full_refresh)
    return resources(
        reader,
        backfill,
        full_refresh=full_refresh,
        rescan_share=_rescan_share(rescan_share),
        limits=Limits(max_requests, max_minutes),
    )


def resources(
    reader: Reader,
    backfill: tuple[datetime, datetime] | None = None,
    *,
    full_refresh: bool = False,
    rescan_share: float = 0.0,
    limits: Limits = _NO_LIMITS,
) -> Sequence[DltResource]:
    """The resources of the source, reading through `reader`; `backfill` is half-open, UTC."""
    run = _Run(reader, limits, full_refresh, rescan_share)

    @dlt.resource
    def contact_pages() -> Iterator[Event]:
        yield from run.pages()

    @dlt.transformer(data_from=contact_pages)
    def conversation_reads(event: Event) -> Iterator[Event]:
        yield from run.reads(event)

    @dlt.transformer(data_from=contact_pages, **tables.CONTACTS)
    def contacts(event: Event) -> Iterator[Any]:
        yield from run.contacts(event)

    @dlt.transformer(data_from=conversation_reads, **tables.MESSAGES)
    def messages(event: Event) -> Iterator[Any]:
        yield from run.messages(event)

    @dlt.transformer(data_from=conversation_reads, **tables.CONVERSATIONS)
    def conversations(event: Event) -> Iterator[Any]:
        yield from run.conversations(event)

    @dlt.transformer(data_from=conversation_reads, **tables.REJECTED_ROWS)
    def rejected_rows(event: Event) -> Iterator[Any]:
        yield from run.rejected_rows(event)

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


@dataclass
class Package:
    """How much goes into one load package, and afterwards what went into it.

    `with Package(...):` bounds every extract inside it. `counts` has `requests`, `complete`,
    `missing`, `failed`, `quiet`, `newer`, `replaced`, `unlisted`, of requests `planned`, `saved`
    and `wasted`, and of conversations those left for later packages, `remaining`, and for later
    runs, `carried_over`.
    """

    conversations: int | None = None
    minutes: float | None = None
    messages: int | None = None
    run: ExitStack = field(default_factory=ExitStack)
    """What has to be done when the run of several packages has ended, however it did."""
    counts: Counter[str] = field(default_factory=Counter)
    unknown_numbers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began_s = time.monotonic()
        self._taken = self._rows = 0

    def __enter__(self) -> "Package":
        self._token = _package.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _package.reset(self._token)

    def add(self, event: Listed | Roster | ConversationRead) -> None:
        """Count what came."""
        if isinstance(event, Roster):
            self.counts["unlisted"] += event.unlisted
            self.counts["wasted"] += event.wasted
            self.unknown_numbers += event.unknown_numbers
            return
        mapped = event.contacts if isinstance(event, Listed) else event.reading.mapped
        self.counts["requests"] += event.meter.requests
        self.counts["replaced"] += sum(m.replaced for m in mapped)
        if isinstance(event, Listed):
            self.counts["wasted"] += event.meter.wasted
            self.counts["planned"] += 1
        else:
            # One that the API no longer lists costs no request, and hardly any room.
            self._taken += event.meter.requests > 0
            self._rows += event.reading.rows
            self.counts["wasted"] += event.wasted
            self.counts[event.reading.status] += 1
            if not event.backfill:
                self.counts["newer"] += event.newer
                self.counts["saved"] += event.saved

    def is_full(self, of: int) -> bool:
        """Whether no other conversation goes in, of so many in the run.

        Twenty packages are enough: with each the state of all conversations is written.
        """
        minutes = (time.monotonic() - self._began_s) / 60
        return (
            (self.conversations is not None and self._taken >= max(self.conversations, of // 20))
            or (self.messages is not None and self._rows >= self.messages)
            or (self.minutes is not None and minutes >= self.minutes)
        )


_package: ContextVar[Package] = ContextVar("package")


def _current_package() -> Package:
    """The package that bounds this extract; one without bounds where `sync` is not used."""
    return _package.get(None) or Package()


@dataclass
class _Run:
    """One run over a tenant, in one load package or several; what each pipe takes from an event."""

    reader: Reader
    limits: Limits
    full_refresh: bool
    rescan_share: float = 0.0
    started_at: datetime = _BEGINNING
    budget: Budget = field(default_factory=Budget)
    due: int = 0
    """How many conversations the run had to read when it began."""
    left: int = 0
    """How many of them are in no package yet."""
    carried_over: int = 0
    reading: ReadAhead[ConversationRead] | None = None
    """None before the contacts are listed, and after the run."""

    def pages(self) -> Iterator[Event]:
        if self.reading is not None:
            yield Roster([])
            return
        self.started_at = to_the_millisecond(self.reader.now())
        self.budget = self.limits.budget(time.monotonic())
        for event in self.reader.contacts():
            if isinstance(event, Listed):
                self.limits.check(event.pages)
                self.budget.spend(event.meter.requests)
            _current_package().add(event)
            yield event

    def reads(self, event: Event) -> Iterator[Event]:
        yield event
        if not isinstance(event, Roster) or not _is_selected("messages", "conversations"):
            return
        since = _backfill_start()
        state = TenantState.of(dlt.current.resource_state("messages"), self.reader.tenant_id)
        if self.reading is None:
            due = self._due(event, state, since)
            if since is None and self.reader.phone_numbers is None and not event.unlisted:
                yield from _batches(self._no_longer_listed(event, state))
            self._begin(due, since)
        try:
            yield from _batches(self._package_full())
        except BaseException:
            # An extract that fails is thrown away, and the next one lists the contacts anew.
            self._end()
            raise
        _current_package().counts["remaining"] = self.left
        if since is None and self.reader.phone_numbers is None and _is_selected("messages"):
            self._keep_open_run()

    def _begin(self, due: deque[Due], since: datetime | None) -> None:
        self.due = self.left = len(due)
        self.carried_over = 0
        tasks = self._tasks(due, since)
        self.reading = ReadAhead(tasks, _weight, READ_AHEAD_ROWS)
        _current_package().run.callback(self._end)

    def _end(self) -> None:
        if self.reading is not None:
            self.reading.close()
        self.reading, self.left = None, 0

    def _package_full(self) -> Iterator[ConversationRead]:
        """As many conversations as go into the load package."""
        package = _current_package()
        for read in self.reading or ():
            self.left -= 1
            yield read
            if package.is_full(self.due) and self.left:
                return
        package.counts["carried_over"] += self.carried_over
        self._end()

    def _tasks(self, due: deque[Due], since: datetime | None) -> Iterator[Task[ConversationRead]]:
        """The reading of as many conversations as go into the budget."""
        while due:
            meter = self.budget.begin(due[0].expected, time.monotonic())
            if meter is None:
                self.carried_over = len(due)
                return
            one = due.popleft()
            yield self.reader.conversation(one, self.started_at, since=since, meter=meter)

    def _due(self, roster: Roster, state: TenantState, since: datetime | None) -> deque[Due]:
        """What this run has to read; the package hears what it need not ask and will cost."""
        if since is not None and self.limits.given:
            raise ConfigurationError(
                "sources.flowiq.max_requests and max_minutes go with incremental syncs alone: "
                "a backfill keeps no account of what it has read"
            )
        schedule = self._schedule(roster, state, since)
        counts = _current_package().counts
        counts["quiet"] += len(schedule.quiet)
        counts["saved"] += sum(pages_of(cursor.known) for cursor in schedule.quiet)
        counts["planned"] += sum(due.expected for due in schedule.due)
        return deque(schedule.due)

    def _schedule(self, roster: Roster, state: TenantState, since: datetime | None) -> Schedule:
        if since is not None or self.reader.phone_numbers is not None:
            chosen = [(c, state.cursor(c.contact_id)) for c in roster.conversations]
            return Schedule([Due(c, cursor, self.full_refresh) for c, cursor in chosen])
        interrupted = state.open_run
        if interrupted and _resumes(interrupted, self.started_at, self.full_refresh):
            self.started_at = interrupted.started_at
        rules = Rules(self.started_at, self.reader.lookback, self.full_refresh, self.rescan_share)
        return make_schedule(roster.conversations, state.cursor, rules)

    def _no_longer_listed(self, roster: Roster, state: TenantState) -> list[ConversationRead]:
        listed = {conversation.contact_id for conversation in roster.conversations}
        if not listed and state.contact_ids():
            # More likely a fault than the end of every conversation, and dear if it is one.
            logger.warning("the API lists no contacts at all: none is taken for gone")
            return []
        return [
            self.reader.unlisted(contact_id, cursor)
            for contact_id in state.contact_ids()
            if contact_id not in listed and (cursor := state.cursor(contact_id))
        ]

    def _keep_cursors(self, event: Reads) -> None:
        state = TenantState.kept(dlt.current.resource_state("messages"), self.reader.tenant_id)
        for read in event.reads:
            if read.reading.cursor:
                state.keep_cursor(read.conversation.contact_id, read.reading.cursor)
            elif read.reading.status == "missing":
                state.forget_cursor(read.conversation.contact_id)

    def _keep_open_run(self) -> None:
        state = TenantState.kept(dlt.current.resource_state("messages"), self.reader.tenant_id)
        run = OpenRun(self.started_at, self.full_refresh)
        state.keep_open_run(run if self.left else None)

    def contacts(self, event: Event) -> Iterator[Any]:
        if isinstance(event, Listed):
            yield [mapped.row for mapped in event.contacts]
        if isinstance(event, Roster):
            yield dlt.mark.materialize_table_schema()

    def messages(self, event: Event) -> Iterator[Any]:
        if isinstance(event, Reads):
            pages = [page for read in event.reads for page in read.reading.pages]
            yield from tables.message_columns(pages, _load_id())
            yield [mapped.row for read in event.reads for mapped in read.reading.mapped]
            if _backfill_start() is None:
                self._keep_cursors(event)
        if isinstance(event, Roster):
            yield dlt.mark.materialize_table_schema()

    def conversations(self, event: Event) -> Iterator[Any]:
        if isinstance(event, Reads):
            # A backfill sees a part; only its failures say something of the whole.
            backfill = _backfill_start() is not None
            rows = [
                conversation_row(read, self.reader.tenant_id)
                for read in event.reads
                if read.reading.status == "failed" or not backfill
            ]
            yield from tables.conversation_columns(rows, _load_id())
        if isinstance(event, Roster):
            yield dlt.mark.materialize_table_schema()

    def rejected_rows(self, event: Event) -> Iterator[Any]:
        rows = rejections(event, self.reader.tenant_id, self.reader.now())
        if rows:
            logger.warning("%d values did not fit their column: see rejected_rows", len(rows))
            yield rows
        if isinstance(event, Roster):
            yield dlt.mark.materialize_table_schema()


def _resumes(interrupted: OpenRun, now: datetime, full_refresh: bool) -> bool:  # noqa: FBT001
    """Whether a run goes on with an interrupted one instead of reading everything again."""
    return interrupted.full_refresh == full_refresh and now - interrupted.started_at < RESUME_WITHIN


READ_AHEAD_ROWS = 20_000
"""How many messages are read while a package is loaded."""


def _weight(read: ConversationRead) -> int:
    """How many messages' memory it takes; an empty one is not nothing."""
    return 10 + read.reading.rows


BATCH_ROWS = 5_000
"""How many messages travel through dlt together: each step costs the same for one and for many."""


def _batches(results: Iterable[ConversationRead]) -> Iterator[Reads]:
    """The conversations read, in batches of about `BATCH_ROWS` messages."""
    reads: list[ConversationRead] = []
    rows = 0
    for read in results:
        _current_package().add(read)
        if read.reading.status == "failed":
            logger.error("one conversation failed: %s", read.reading.error)
        reads.append(read)
        rows += read.reading.rows
        if rows >= BATCH_ROWS:
            yield Reads(reads)
            reads, rows = [], 0
    if reads:
        yield Reads(reads)


def _lookback(days: float) -> timedelta:
    try:
        if days >= 0:
            return timedelta(days=days)
    except OverflowError:
        pass
    raise ConfigurationError("sources.flowiq.lookback_days must be a number of days, 0 or more")


def _rescan_share(share: float) -> float:
    if 0 <= share <= 1:
        return share
    raise ConfigurationError("sources.flowiq.rescan_share must be a share from 0 to 1")


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
    start: str | datetime | None,
    end: str | datetime | None,
    now: datetime,
    *,
    full_refresh: bool,
) -> tuple[datetime, datetime] | None:
    """The half-open range of a backfill; None for an incremental sync."""
    if start is None and end is None:
        scheduler = Container()[TimeIntervalContext]
        interval = scheduler.interval if scheduler.allow_external_schedulers else None
        return (interval.start, interval.end) if interval else None
    if full_refresh:
        raise ConfigurationError(
            "sources.flowiq.full_refresh reads everything: leave out start_date and end_date"
        )
    first = _BEGINNING if start is None else _date("start_date", start)
    last = now if end is None else _date("end_date", end)
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


def _load_id() -> str:
    load_id: str = dlt.current.load_package_state()["load_id"]
    return load_id


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
