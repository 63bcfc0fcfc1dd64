"""What the resources of one source share: a run, and what it brings, handed to each of them.

    Run ── Listed ────────────── contacts, contact_identities, rejected_rows
        ├─ ConversationResult ── messages, conversations, rejected_rows
        └─ its counts ────────── syncs

Whichever resource dlt asks first has the run read on, and the others find their share waiting. So
every page is asked for once, whatever is selected, and each resource is one of its own.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import dlt
from dlt.common.runtime import signals
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseException
from dlt.extract import DltResource, DltSource
from dlt.extract.items_transform import LimitItem

from flowiq_source.api.answers import RawRow
from flowiq_source.api.client import FlowiqClient
from flowiq_source.errors import ConfigurationError
from flowiq_source.loading import tables
from flowiq_source.loading.changes import FREE_TO_ASK, count_changes
from flowiq_source.loading.counters import Counters
from flowiq_source.loading.destination import Committed, mend_tables
from flowiq_source.loading.files import answers_of, are_appended, write_as
from flowiq_source.loading.incremental import backfill_start
from flowiq_source.loading.known import held_against, known_of
from flowiq_source.loading.mysql import widen_text
from flowiq_source.loading.privacy import (
    check_key,
    kept_undocumented,
    policy_of,
    with_the_forgotten,
)
from flowiq_source.loading.state import OpenRun, TenantState
from flowiq_source.loading.undocumented import (
    has_row_steps,
    load_id_of_extract,
    loads_parquet,
)
from flowiq_source.reading.ahead import Ahead
from flowiq_source.reading.conversation import ConversationResult
from flowiq_source.reading.listing import Listed
from flowiq_source.reading.pool import Stop
from flowiq_source.reading.run import Known, Run
from flowiq_source.rows.arrow import map_page, message_table, read_rows
from flowiq_source.rows.convert import Mapped, Row, contact_row, rejected_rows
from flowiq_source.rows.extras import extra_columns
from flowiq_source.rows.identities import identity_rows
from flowiq_source.rows.privacy import Policy
from flowiq_source.settings import Settings
from flowiq_source.times import from_microseconds, utc_now

logger = logging.getLogger("flowiq_source")
_T = TypeVar("_T")

BATCH_ROWS = 5_000
"""How many messages travel through dlt together: each step costs the same for one and for many."""

BATCH_S = 2.0
"""How long they wait for each other: whoever looks on sees their number grow."""

Results = list[ConversationResult]
Event = Listed | Results


@dataclass(frozen=True)
class Bounds:
    """How much goes into one load package; nothing is given where `sync` is not used."""

    conversations: int | None = None
    minutes: float | None = None
    messages: int | None = None


NO_BOUNDS = Bounds()
OF_CONTACTS = ("contacts", "contact_identities")
"""Resources that have everything when the contacts are listed."""
OF_CONVERSATIONS = ("messages", "conversations")
"""Resources that conversations are read for."""
OF_BOTH = "rejected_rows"
OF_ALL = (OF_BOTH, "syncs")
OF_READING = {*OF_CONVERSATIONS, OF_BOTH}
"""Resources whose rows come of reading conversations."""


_NOT_MY_TURN = None
"""Has dlt go on with another resource; else the others' rows would wait until all has been read."""


@dataclass
class Share:
    """What one extract of a source brings, in a queue for each selected resource."""

    events: Iterator[Event]
    names: Collection[str]
    is_listed: Callable[[], bool]
    give_up: Callable[[], object]
    """Called when those who take have enough before the end."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ended: bool = False
    _takers: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._queues: dict[str, deque[Event]] = {name: deque() for name in self.names}

    def take(self, name: str) -> Iterator[Event]:
        """Everything that the resource gets.

        Raises:
            ConfigurationError: somebody takes it already.
        """
        with self._lock:
            if name in self._takers:
                raise ConfigurationError(
                    f"{name} is loaded twice in one run, by two names, and is read once: take the "
                    "second from a flowiq_source() of its own, or split the rows by "
                    "apply_hints(table_name=...)"
                )
            self._takers.add(name)
        try:
            while (event := self._next(name)) is not None:
                yield event
        except GeneratorExit:
            self._leave(name)
            if self._ended:
                self.give_up()
            raise
        self._leave(name)

    def has(self, name: str) -> bool:
        """Whether the resource's share has not been taken yet."""
        return name in self._queues

    def _leave(self, name: str) -> None:
        with self._lock:
            self._queues.pop(name, None)
            # Messages that nobody takes need not be read.
            self._ended = self._ended or name == "messages" or not self._queues

    def _next(self, name: str) -> Event | None:
        with self._lock:
            queue = self._queues[name]
            while not queue:
                if self._ended or (name in OF_CONTACTS and self.is_listed()):
                    return None
                event = next(self.events, None)
                self._ended = event is None
                for other, waiting in self._queues.items():
                    if event is not None and _is_for(other, event):
                        waiting.append(event)
            return queue.popleft()


def _is_for(name: str, event: Event) -> bool:
    if name in OF_ALL:
        return True
    return name in (OF_CONTACTS if isinstance(event, Listed) else OF_CONVERSATIONS)


class Feed:
    """What brings the rows of one source: its run, and the share of each resource in it."""

    def __init__(self, settings: Settings, now: Callable[[], datetime] = utc_now) -> None:
        self.settings, self.now = settings, now
        self.policy = policy_of(settings)
        self.bounds = NO_BOUNDS
        self.run: Run | None = None
        self.ahead: Ahead | None = None
        """What its run brought before there was a load package."""
        self.began_s = 0.0
        self.needs_folder = True
        """Whether somebody works with the pipeline's folder when its sync has ended."""
        self.writes_parquet = False
        self.connect: Callable[..., Any] = FlowiqClient
        self._extract: _Extract | None = None
        self._counters: Counters | None = None
        self._lock = threading.Lock()

    def contact_mapper(self, policy: Policy | None = None) -> Callable[[RawRow], Mapped]:
        """What makes rows of contacts where none is loaded, by the ids that the tables have."""
        tenant, now, extras = self.settings.tenant_key, self.now(), extra_columns()
        policy = policy or self.policy
        return lambda raw: policy.contact(contact_row(raw, tenant, now, extras))

    def contacts(self) -> Iterator[Any]:
        """The rows of `contacts`."""
        for event, extract in self._take("contacts"):
            yield extract.kept("contacts", [mapped.row for mapped in event.contacts])
        yield from self._even_if_empty("contacts")

    def contact_identities(self) -> Iterator[Any]:
        """The rows of `contact_identities`."""
        for event, extract in self._take("contact_identities"):
            rows = [
                row
                for mapped in event.contacts
                for row in identity_rows(mapped.row, mapped.identities, mapped.row["synced_at"])
            ]
            kept = extract.kept("contact_identities", rows)
            yield extract.since_first_seen("contact_identities", kept)
        yield from self._even_if_empty("contact_identities")

    def messages(self) -> Iterator[Any]:
        """The rows of `messages`; with them go the cursors."""
        extract = None
        for results, extract in self._take("messages"):
            pages = [page for one in results for page in one.pages]
            flat = extract.policy.arrow(message_table(pages)) if extract.columnar else None
            rows = extract.kept("messages", [row for page in pages for row in page.rows])
            extract.compare(results, rows, flat)
            if flat is not None:
                yield from tables.message_columns(flat, extract.names.messages, extract.load_id)
            yield rows
            extract.keep(results, reactions=any(row.get("reactions") for row in rows))
        if extract is None:
            extract = self._extract
        yield from self._even_if_empty("messages")
        if extract is not None:
            extract.keep_run()

    def conversations(self) -> Iterator[Any]:
        """The rows of `conversations`."""
        for results, extract in self._take("conversations"):
            rows = [
                one.row(self.settings.tenant_key)
                for one in results
                # A backfill sees a part; only its failures say something of the whole.
                if one.is_settled and not (extract.run.backfill_from and one.status != "failed")
            ]
            rows = extract.kept("conversations", rows)
            if rows and extract.may_be_columns("conversations"):
                yield from tables.conversation_columns(rows, extract.load_id)
            else:
                yield rows
        yield from self._even_if_empty("conversations")

    def rejected_rows(self) -> Iterator[Any]:
        """The rows of `rejected_rows`."""
        for event, extract in self._take("rejected_rows"):
            rows = [
                row
                for table, mapped in _mapped(event)
                for row in rejected_rows(mapped, table, self.now())
            ]
            if rows:
                logger.warning("%d values did not fit their column: see rejected_rows", len(rows))
                kept = extract.kept("rejected_rows", rows)
                yield extract.since_first_seen("rejected_rows", kept)
            else:
                yield _NOT_MY_TURN
        yield from self._even_if_empty("rejected_rows")

    def syncs(self) -> Iterator[Any]:
        """The row of `syncs`: how far the run has come with this load package."""
        for _ in self._take("syncs"):
            # There is nothing to tell before the end.
            yield _NOT_MY_TURN
        extract = self._extract
        if extract is not None and extract.reads:
            yield [self.sync_row(extract.run)]
        yield from self._even_if_empty("syncs")

    def _even_if_empty(self, name: str) -> Iterator[Any]:
        """What has dlt make the table, or empty it where it is replaced, though no row has come."""
        # As a row without keys, which cannot be hashed as dlt wants it for Delta and Iceberg.
        if self.settings.table_format is None and not (
            self._extract and self._extract.only_adds_to(name)
        ):
            yield dlt.mark.materialize_table_schema()

    def sync_row(self, run: Run) -> Row:
        """The row of `syncs`."""
        counts, settings = run.counts, self.settings
        chosen = settings.phone_numbers is not None
        kind = "backfill" if run.backfill_from else "chosen" if chosen else "incremental"
        has_ended = not run.left
        return {
            "tenant_id": settings.tenant_key,
            "started_at": run.started_at,
            "ended_at": self.now() if has_ended else None,
            "kind": "full" if settings.full_refresh and not chosen else kind,
            "complete": run.is_complete if has_ended else None,
            "requests": run.api.requests,
            "conversations": counts["complete"],
            **{name: counts[name] for name in ("quiet", "failed", "doubtful", "carried_over")},
        }

    def check(self) -> None:
        """Tell how far the run is, whenever it waits, in the thread that wants its rows.

        Raises:
            KeyboardInterrupt: a signal has come.
        """
        signals.raise_if_signalled()
        if self._counters:
            self._counters.tell()

    def tell(self, run: Run, collector: Any) -> None:
        """Have a collector told of a run from now on; None wants to hear nothing."""
        self._counters = collector and Counters(
            run, run.api, self.settings, collector, self.began_s
        )

    def begin_run(  # noqa: PLR0913 - what a run is made of
        self,
        known: Known,
        policy: Policy,
        columns: Mapping[str, Sequence[str]],
        *,
        columnar: bool,
        at_most: int | None = None,
        backfill_from: datetime | None = None,
    ) -> Run:
        """Begin to read; `columns` are those that undocumented fields have in the tables."""
        kept = kept_undocumented(self.settings)
        extras = extra_columns({table: [*columns[table], *kept[table]] for table in columns})
        tenant, stop = self.settings.tenant_key, Stop(signals.raise_if_signalled)
        self.began_s = time.monotonic()
        self.run = Run(
            api=self.connect(self.settings, sleep=stop.sleep, read_rows=read_rows),
            settings=self.settings,
            known=known,
            at_most=at_most,
            map_contact=lambda raw, at: policy.contact(contact_row(raw, tenant, at, extras)),
            map_page=lambda rows, origin: map_page(rows, origin, extras, columnar=columnar),
            now=self.now,
            stop=stop,
            check=self.check,
            backfill_from=backfill_from,
        )
        return self.run

    def look_ahead(
        self,
        pipeline: dlt.Pipeline,
        source: DltSource,
        schema: Schema,
        known: Known,
        policy: Policy,
    ) -> Ahead:
        """Begin to read before there is a load package; the tables are those of a schema."""
        names = tables.TableNames.of(source)
        self.ahead = Ahead(
            self.begin_run(
                known,
                policy,
                tables.undocumented_columns(schema, names),
                columnar=is_columnar(self.settings, source.resources["messages"], pipeline),
            )
        )
        self.tell(self.ahead.run, pipeline.collector)
        return self.ahead

    def end(self) -> None:
        """Give up what is being read, and read without bounds from now on."""
        self.bounds, self.ahead = NO_BOUNDS, None
        if self.run is not None:
            self.run.close()

    def _take(self, name: str) -> Iterator[tuple[Any, "_Extract"]]:
        """Everything that a resource gets in the extract that is going on."""
        with self._lock:
            load_id, source = load_id_of_extract(), dlt.current.source()
            extract = self._extract
            if extract is None or not extract.has(name, load_id, source):
                extract = self._extract = _Extract(self, load_id, source, name)
        for event in extract.share.take(name):
            yield event, extract


class _Extract:
    """One extract of a source into one load package."""

    def __init__(self, feed: Feed, load_id: str | None, source: DltSource, first: str) -> None:
        self._feed, self._is_loaded, self.load_id = feed, load_id is not None, load_id or ""
        self._source, self.names = source, tables.TableNames.of(source)
        # To ask for it takes dlt a while.
        pipeline: Any = dlt.current.pipeline() if self._is_loaded else None
        self._pipeline = pipeline
        self._messages = source.resources.get("messages")
        self._limits = [
            resource.limit
            for role, resource in source.selected_resources.items()
            if role in OF_CONVERSATIONS
        ]
        self._known_as: dict[str, dict[tuple[Any, ...], Any]] = {}
        self._why_anew: str | None = None
        self._filled: set[str] = set()
        self._tables: Collection[str] = ()
        self.columnar = self._is_loaded and is_columnar(feed.settings, self._messages, pipeline)
        if self._is_loaded:
            tables.check_strategies(source)
            self._choose_format()
            self._have_tables()
        self.policy = self._policy()
        self._ahead, feed.ahead = feed.ahead, None
        if self._ahead:
            feed.run = self._ahead.run
        elif feed.run is None or not feed.run.left or not self._is_loaded:
            feed.run = self._new_run()
        self.run = feed.run
        self._compares = self._is_comparable()
        if self._compares:
            self.run.counts.update(known=0, changed=0)
        # The first is not among them if it was renamed.
        names = {*source.selected_resources, first} & {*OF_CONTACTS, *OF_CONVERSATIONS, *OF_ALL}
        self.reads = bool(names & set(OF_CONVERSATIONS))
        self._has_listed = not self._ahead and self.run.is_listed
        self.share = Share(self._events(), names, lambda: self._has_listed, self.run.close)
        feed.tell(self.run, pipeline and pipeline.collector)

    def has(self, name: str, load_id: str | None, source: DltSource) -> bool:
        """Whether this is the extract that the resource belongs to, and waits for it."""
        is_this = self._source is source and self.load_id == (load_id or "")
        return is_this and self.share.has(name)

    def may_be_columns(self, name: str) -> bool:
        """Whether a resource may hand out tables; a step of a user's takes rows.

        By another name than its own it hands out rows, because its steps are not known here.
        """
        resource = self._source.selected_resources.get(name)
        return self.columnar and resource is not None and not has_row_steps(resource)

    def only_adds_to(self, name: str) -> bool:
        """Whether the resource's table is there and keeps its rows, so no row means no load."""
        resource = self._source.resources.get(name)
        is_kept = resource is not None and resource.write_disposition == "merge"
        return is_kept and getattr(self.names, name) in self._tables

    def keep(self, results: Sequence[ConversationResult], *, reactions: bool) -> None:
        """Put the cursors into dlt's state, to be committed with the rows that they speak of."""
        if not self._is_loaded:
            return
        state = self._state()
        found = {
            "reactions": reactions and self._keeps_reactions,
            "conversations": "conversations" in self.share.names,
        }
        self._filled |= {name for name, is_there in found.items() if is_there}
        for one in results:
            if one.cursor:
                state.keep_cursor(one.task.conversation.contact_id, one.cursor)
        # With the cursors, because a limit may end the resource here.
        self.keep_run()

    def compare(self, results: Results, rows: Sequence[Row], flat: Any) -> None:
        """Count which of the messages are known, and which of those have changed."""
        if not self._compares:
            return
        again = [one for one in results if one.rows and self._may_be_stored(one)]
        since = {
            page.origin.contact_id: from_microseconds(min(one.times, default=0))
            for one in again
            for page in one.pages[:1]
        }
        if not since:
            return
        all_rows = [*rows, *(flat.to_pylist() if flat is not None else ())]
        known_rows = [row for row in all_rows if row["contact_id"] in since]
        try:
            known, changed = self._ask(
                lambda committed: count_changes(committed, self.names, known_rows, since), (0, 0)
            )
        except DatabaseException:
            # It is a number in the summary: what is read goes on without it.
            self._compares = False
            del self.run.counts["known"], self.run.counts["changed"]
            return
        self.run.counts["known"] += known
        self.run.counts["changed"] += changed

    def _may_be_stored(self, one: ConversationResult) -> bool:
        return bool(one.task.previous.used or self.run.backfill_from)

    def _is_comparable(self) -> bool:
        """Whether rows are stored as they leave here, where asking for them costs nothing."""
        if not self._is_loaded or self._feed.bounds is NO_BOUNDS or self._messages is None:
            return False
        kind = self._pipeline.destination.destination_type
        return kind.endswith(FREE_TO_ASK) and self._keeps_reactions

    @property
    def _keeps_reactions(self) -> bool:
        """Whether they end in their table: a user may flatten them, or take them out."""
        nested = bool(self._source.max_table_nesting) and not self._feed.settings.table_format
        return nested and self._messages is not None and not has_row_steps(self._messages)

    def keep_run(self) -> None:
        """Put into dlt's state how far the run is."""
        if not self._is_loaded or self.run.backfill_from is not None:
            return
        settings, open_run = self._feed.settings, None
        if self.run.left and settings.phone_numbers is None:
            open_run = OpenRun(self.run.started_at, settings.full_refresh)
        state = self._state()
        state.keep_load(self.load_id, self._filled, anew=self._why_anew is not None)
        run = self.run
        state.keep_run(run.known.number, open_run, run.way, run.roster.surplus)
        policy = self.policy
        if policy.hashes and policy.hasher:
            state.keep_policy(policy.hasher.key_id, pseudonymised=policy.pseudonymise)

    def kept(self, table: str, rows: list[Row]) -> list[Row]:
        """What is kept of rows of a table."""
        return self.policy.rows(table, rows)

    def since_first_seen(self, name: str, rows: list[Row]) -> list[Row]:
        """The rows with the times at which the destination first saw them."""
        key = FIRST_SEEN[name]
        if name not in self._known_as:
            self._known_as[name] = self._ask(
                lambda committed: committed.first_seen(getattr(self.names, name), key), {}
            )
        for row in rows:
            seen = self._known_as[name].get(tuple(row[column] for column in key))
            row["first_seen_at"] = seen or row["first_seen_at"]
        return rows

    def _state(self) -> TenantState:
        return TenantState.kept(
            dlt.current.resource_state("messages"), self._feed.settings.tenant_key
        )

    def _ask(self, question: Callable[[Committed], _T], otherwise: _T) -> _T:
        """An answer of the destination; there is none outside of a pipeline, nor without SQL."""
        if not self._is_loaded:
            return otherwise
        with answers_of(self._pipeline, self._source) as client:
            if client is None:
                return otherwise
            return question(Committed(client, self._feed.settings.tenant_key))

    def _policy(self) -> Policy:
        """What is kept of rows, if it is what the destination's rows were kept by."""
        policy = self._feed.policy
        if not self._is_loaded:
            return policy
        tenant = self._feed.settings.tenant_key
        state = TenantState.of(dlt.current.resource_state("messages"), tenant)
        check_key(policy, state)
        return self._ask(
            lambda committed: with_the_forgotten(policy, state, committed, self.names), policy
        )

    def _new_run(self) -> Run:
        messages = self._messages
        return self._feed.begin_run(
            self._known(),
            self.policy,
            tables.undocumented_columns(self._source.schema, self.names),
            columnar=self.columnar,
            at_most=at_most(self._limits),
            backfill_from=backfill_start(messages) if messages else None,
        )

    def _known(self) -> Known:
        """What is known of the conversations; nothing where what it stands for is replaced."""
        settings, now = self._feed.settings, self._feed.now()
        if not self._is_loaded:
            return known_of(TenantState(), settings, now)
        state = TenantState.of(dlt.current.resource_state("messages"), settings.tenant_key)
        known = known_of(state, settings, now)
        tables = self._source.selected_resources
        # Where the source stands twice in one run, the rows are in this very package.
        if self.load_id not in state.load_ids:
            self._why_anew = self._ask(
                lambda committed: held_against(known, state, committed, self.names, tables), None
            )
            if self._why_anew:
                logger.warning("%s: every conversation is read again", self._why_anew)
        if any(
            "replace" in str(tables[name].write_disposition) for name in OF_READING & set(tables)
        ):
            known.forget()
        return known

    def _choose_format(self) -> None:
        appended = are_appended(self._pipeline, self._feed.settings)
        # The same source may have been loaded elsewhere before; what else was chosen stays.
        if appended != self._feed.writes_parquet:
            write_as(self._source, "parquet" if appended else "")
            self._feed.writes_parquet = appended

    def _have_tables(self) -> None:
        """Make the tables that are gone; where `sync` is used, it has made them before."""
        pipeline, schema = self._pipeline, self._source.schema.name
        widen_text(pipeline)
        if schema in pipeline.schema_names:
            self._tables = pipeline.schemas[schema].data_table_names(seen_data_only=True)
        if self._feed.bounds is NO_BOUNDS and schema in pipeline.schema_names:
            mend_tables(pipeline, pipeline.schemas[schema])

    def _events(self) -> Iterator[Event]:
        for event in self._read():
            for _, mapped in _mapped(event):
                self.run.counts["replaced"] += mapped.replaced
                self.run.counts["overflowed"] += mapped.overflowed
            self._feed.check()
            yield event

    def _read(self) -> Iterator[Event]:
        try:
            if self._ahead:
                yield from self._ahead.contacts.take()
            elif not self.run.is_listed:
                yield from self.run.contacts()
            self._has_listed = True
            if self.reads:
                yield from self._batches()
            else:
                self.run.close()
        except BaseException:
            # An extract that fails is thrown away, and the next one lists the contacts anew.
            self.run.close()
            raise

    def _batches(self) -> Iterator[Results]:
        """The conversations read, in batches of about `BATCH_ROWS` messages."""
        package = _Package(self._feed.bounds, self.run)
        batch: Results = []
        rows, began_s = 0, time.monotonic()
        for one in self._conversations(package.is_full):
            package.add(one)
            batch.append(one)
            rows += one.rows
            is_due = rows >= BATCH_ROWS or time.monotonic() - began_s >= BATCH_S
            # Who limits the items wants few of them, and a conversation is one.
            if is_due or any(self._limits):
                yield batch
                batch, rows, began_s = [], 0, time.monotonic()
        if batch:
            yield batch

    def _conversations(self, is_full: Callable[[], bool]) -> Iterator[ConversationResult]:
        if not self._ahead:
            return self.run.conversations(is_full)
        self._ahead.is_full = is_full
        return self._ahead.conversations.take()


FIRST_SEEN = {
    "contact_identities": ("contact_id", "kind", "value"),
    "rejected_rows": ("table_name", "record_id", "column_name", "reason", "raw"),
}
"""Tables that keep when a row was first seen, and what tells its rows apart for a tenant."""


def _mapped(event: Event) -> Iterator[tuple[str, Mapped]]:
    """The rows of an event that went through the mapping, and their table."""
    if isinstance(event, Listed):
        yield from (("contacts", mapped) for mapped in event.contacts)
    else:
        yield from (("messages", mapped) for one in event for mapped in one.mapped)


@dataclass
class _Package:
    """How much has gone into a load package."""

    bounds: Bounds
    run: Run
    began_s: float = field(default_factory=time.monotonic)
    conversations: int = 0
    messages: int = 0
    holds_part: bool = False

    def add(self, one: ConversationResult) -> None:
        """Count what goes in."""
        # One that costs no request takes hardly any room.
        self.conversations += one.meter.requests > 0
        self.messages += one.rows
        self.holds_part = self.holds_part or one.unfinished

    def is_full(self) -> bool:
        """Whether no other conversation goes in.

        Twenty packages are enough: with each the state of all conversations is written. Only a
        part of a long one is loaded by itself, because memory grows with what is loaded at once.
        """
        bounds, minutes = self.bounds, (time.monotonic() - self.began_s) / 60
        return (
            (
                bounds.conversations is not None
                and self.conversations >= max(bounds.conversations, self.run.due // 20)
            )
            or (bounds.messages is not None and self.messages >= bounds.messages)
            or (bounds.messages is not None and self.holds_part)
            or (bounds.minutes is not None and minutes >= bounds.minutes)
        )


def at_most(limits: Sequence[LimitItem | None]) -> int | None:
    """How many conversations are wanted by resources with these limits; None for all."""
    if not limits or not all(one and one.max_items >= 0 and not one.count_rows for one in limits):
        return None
    return max(one.max_items for one in limits if one)


def is_columnar(settings: Settings, messages: DltResource | None, pipeline: dlt.Pipeline) -> bool:
    """Whether messages go as Arrow tables: if that is wanted, and Parquet is loaded.

    Through CSV, as PostgreSQL has it, an empty text would become null.

    Raises:
        ConfigurationError: a step on `messages` wants rows.
    """
    if settings.backend != "pyarrow" or messages is None:
        return False
    if has_row_steps(messages):
        raise ConfigurationError(
            'sources.flowiq.backend is "pyarrow", which hands out tables, and add_map, add_filter '
            'or add_yield_map on messages takes rows: set it to "rows"'
        )
    # dlt counts the tables that it is handed, and rows with reactions are in no table.
    return not messages.limit and loads_parquet(pipeline)
