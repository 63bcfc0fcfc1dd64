"""One run over a tenant: its contacts first, then each conversation. It knows no dlt, no HTTP.

What is known comes in as `Known`, and what was read goes out as it comes: `Listed` for every page
of contacts, then a `ConversationResult` for every conversation or part of one.
"""

import itertools
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from flowiq_source.api.answers import Page, RawRow
from flowiq_source.api.client import FlowiqClient, Meter, Params
from flowiq_source.errors import ConfigurationError, FlowiqError
from flowiq_source.reading.conversation import (
    PART_ROWS,
    Conversation,
    ConversationResult,
    Rules,
    Task,
)
from flowiq_source.reading.cursor import Cursor
from flowiq_source.reading.faults import attempt
from flowiq_source.reading.listing import Listed, Roster
from flowiq_source.reading.pool import QUICK_S, Job, Pool, Put, Stop
from flowiq_source.reading.schedule import Budget, Schedule, make_schedule
from flowiq_source.reading.walk import Ask, MapPage, read_conversation
from flowiq_source.rows.convert import Mapped
from flowiq_source.settings import Settings, pages_of

logger = logging.getLogger("flowiq_source")

READ_AHEAD_ROWS = 20_000
"""How many messages are read while a package is loaded."""

MAY_VANISH = 0.1
"""More than this share of a tenant's conversations do not vanish in one run: that is a fault."""

MAY_BE_LOST = 10
"""So many messages may be lost, or that share of those that were known, before more is doubted."""

MAY_REFUSE = 3
"""So many conversations may be refused before any is answered: then all of them are."""


@dataclass
class Known:
    """What is known of a tenant before a run."""

    cursors: dict[str, Cursor] = field(default_factory=dict)
    number: int = 1
    """The run's number; that of a run which broke off, if this one goes on with it."""
    started_at: datetime | None = None
    """When that one began."""
    way: str = ""
    """The parameter by which conversations are found, as far as is known."""
    list_surplus: int = 0
    """By how many the API's count of contacts exceeds those that it lists."""

    def cursor(self, contact_id: str) -> Cursor:
        """What is known of a conversation."""
        return self.cursors.get(contact_id, Cursor())

    def forget(self) -> None:
        """Know nothing but the numbers of readings, which must go on rising."""
        self.cursors = {c: Cursor(used=cursor.used) for c, cursor in self.cursors.items()}


@dataclass
class Run:
    """One run; `counts` says what it found and spent.

    `counts` has `requests`, `planned`, `saved`, `wasted`, `complete`, `missing`, `doubtful`,
    `failed`, `quiet`, `newer`, `stale`, `vanished`, `unlisted`, `carried_over`.
    """

    api: FlowiqClient
    settings: Settings
    known: Known
    map_contact: Callable[[RawRow, datetime], Mapped]
    map_page: MapPage
    now: Callable[[], datetime]
    stop: Stop = field(default_factory=Stop)
    check: Callable[[], object] = lambda: None
    """Raises what ends the run while it waits, in the thread that wants its results."""
    backfill_from: datetime | None = None
    at_most: int | None = None
    """How many conversations somebody wants; the others are carried over."""
    part_rows: int = PART_ROWS
    counts: Counter[str] = field(default_factory=Counter)
    due: int = 0
    """How many conversations it had to read when it began."""
    left: int = 0
    """How many of them are in no package yet."""
    is_listed: bool = False
    _pool: Pool[ConversationResult] | None = None
    _unsettled: list[ConversationResult] = field(default_factory=list)
    _asked: int = 0
    """How many conversations it has asked for that there were before."""
    _held: int = 0
    """How many messages were known of the conversations that were read."""
    _lost: int = 0
    """How many of them are shown no longer."""
    _refused: int = 0
    """How many requests for conversations it was refused, as if by a wrong token."""
    _is_answered: bool = False
    """Whether any was answered."""
    _arrived: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The conversations that are new and how many messages they have, by `Cursor.who`."""
    _works: set[str] = field(default_factory=set)
    """The parameters that have found messages where they were tried first."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.started_at = self.known.started_at or self.now()
        minutes = settings.max_minutes
        deadline_s = None if minutes is None else time.monotonic() + minutes * 60
        self._budget = Budget(settings.max_requests, deadline_s)
        self.roster = Roster(self.api, lambda raw: self.map_contact(raw, self.now()), self.check)
        self.roster.surplus = self.known.list_surplus
        cursors = self.known.cursors
        self.way = self.known.way
        # An empty list is also the answer to what the API does not know.
        nobody = not any(cursor.known for cursor in cursors.values())
        self._rules = Rules(
            run=self.known.number,
            started_at=self.started_at,
            lookback=settings.lookback,
            full_refresh=settings.full_refresh,
            rescan_share=settings.rescan_share,
            tenant_id=settings.tenant_key,
            backfill_from=self.backfill_from,
            doubts_ways=len(cursors) > 1 and not self.way and nobody,
            part_rows=self.part_rows,
        )
        for contact_id, cursor in cursors.items():
            if cursor.run == self.known.number:
                self._note_arrival(contact_id, cursor)
        self._in_doubt = {contact for contact, c in cursors.items() if c.doubtful and c.is_read}
        self._is_incremental = self.backfill_from is None and settings.phone_numbers is None

    @property
    def is_complete(self) -> bool:
        """Whether everything was read that there is."""
        counts = self.counts
        return not (counts["failed"] or counts["unlisted"] or counts["vanished"])

    def contacts(self) -> Iterator[Listed]:
        """The contacts, page by page.

        Raises:
            FlowiqError: the list cannot be read; nothing else can be either.
        """
        numbers, roster = self.settings.phone_numbers, self.roster
        most = self.settings.max_requests or math.inf
        known = len(self.known.cursors)
        for listed in roster.list_all() if numbers is None else roster.list_chosen(numbers, known):
            is_spent = self.counts["requests"] >= most
            self._check_budget(listed.pages)
            self._budget.spend(listed.meter.requests)
            self._count_requests(listed.meter)
            self.counts["planned"] += 1
            yield listed
            if is_spent:
                roster.note("max_requests is spent")
                break
        self.is_listed = True
        if others := len(roster.of_another):
            text = f"{others} contacts have the id of another and are read as that one"
            logger.warning(text)
            if _too_many(others, len(roster.by_id) + others):
                roster.note(text, others)
        self.counts["wasted"] += roster.wasted
        self.counts["unlisted"] += roster.unlisted
        for position in roster.unknown_numbers:
            logger.warning("phone number %d of %d: no contact", position, len(numbers or ()))
        if roster.error:
            logger.error("the list of contacts is not complete: %s", roster.error)

    def _check_budget(self, contact_pages: int) -> None:
        most = self.settings.max_requests
        if most is not None and most <= contact_pages:
            raise ConfigurationError(
                f"sources.flowiq.max_requests is {most}, and the contact list alone "
                f"costs {contact_pages}: allow more, so that conversations can be read"
            )

    def conversations(self, is_full: Callable[[], bool]) -> Iterator[ConversationResult]:
        """What comes of the conversations, until the load package is full or all have been read."""
        if self._pool is None:
            self._begin()
        for one in self._pool or ():
            result = self._doubt_losses(one)
            self.left -= not result.unfinished
            self._count_requests(result.meter)
            # Before the first part of a long one.
            previous = self.known.cursor(result.task.conversation.contact_id)
            # What fails again was counted when it failed first.
            fails_again = result.status == "failed" and previous.failed
            if self.backfill_from is None and not fails_again:
                # What is read again whole was known, though not when it was from.
                known = 0 if previous.newest or previous.next_page else previous.known
                self.counts["newer"] += max(0, result.count_after(previous.newest) - known)
            if result.is_settled:
                self._count(result)
            else:
                self._unsettled.append(replace(result, pages=[]))
            yield result
            if is_full() and self.left:
                return
        self.left = 0
        if self._rules.doubts_ways:
            self.way = self.way or "contactId"
        for result in self._settle():
            self._count(result)
            yield result
        self.close()

    def _doubt_losses(self, result: ConversationResult) -> ConversationResult:
        """Doubt what conversations lose at once, too little in each of them to be doubtful."""
        previous, lost = result.task.previous, result.lost
        known = previous.known
        self._held += known
        self._lost += lost
        is_little = self._lost <= max(MAY_BE_LOST, self._held * MAY_VANISH)
        if not lost or (is_little and not previous.doubtful):
            return result
        return result.doubted(f"the API shows {known - lost} of {known} messages")

    def close(self) -> None:
        """Give up what is being read: nobody wants it any more."""
        self.left = 0
        self.stop.set()
        if self._pool is not None:
            self._pool.close()

    def _begin(self) -> None:
        schedule = self._schedule()
        if schedule.stale:
            logger.warning(
                "%d cursors are from the future: a clock was wrong, they prove nothing",
                schedule.stale,
            )
        self.counts["stale"] += schedule.stale
        self.counts["quiet"] += len(schedule.quiet)
        self.counts["saved"] += sum(pages_of(cursor.known) for cursor in schedule.quiet)
        self.counts["planned"] += sum(task.expected for task in schedule.due)
        self.due = self.left = len(schedule.due)
        self._pool = Pool(
            self._jobs(deque(schedule.due)),
            weigh=lambda result: 10 + result.rows,
            limit=READ_AHEAD_ROWS,
            check=self.check,
        )
        if self.api.quickest_s < QUICK_S:
            self._pool.readers = 1

    def _schedule(self) -> Schedule:
        conversations, known, rules = self.roster.conversations, self.known, self._rules
        if self._is_incremental:
            return make_schedule(conversations, known.cursor, rules)
        whole = rules.full_refresh
        return Schedule([Task(c, known.cursor(c.contact_id), rules, whole) for c in conversations])

    def _jobs(self, due: deque[Task]) -> Iterator[Job[ConversationResult]]:
        """The reading of as many conversations as go into the budget."""
        for begun in itertools.count():
            if not due:
                return
            meter = self._budget.begin(due[0].expected, time.monotonic())
            if meter is None or begun == self.at_most:
                self.counts["carried_over"] += len(due)
                self.left -= len(due)
                return
            yield partial(self._read, due.popleft(), meter)

    def _read(self, task: Task, meter: Meter, put: Put[ConversationResult]) -> None:
        """Read one conversation; put out what every part of it comes to, and has cost."""
        spent = Meter()
        # One order for all of the walk, whatever others find out meanwhile.
        ways = sorted(task.conversation.ways, key=lambda way: self.way not in way)
        walk = read_conversation(task, self.map_page, self.now)
        answer: Any = None
        while True:
            try:
                item = walk.throw(answer) if isinstance(answer, Exception) else walk.send(answer)
            except StopIteration:
                break
            if isinstance(item, Ask):
                answer = attempt(partial(self._ask, task, ways, item, meter))
                continue
            meter.wasted += item.discarded
            item.meter = Meter(meter.requests - spent.requests, meter.wasted - spent.wasted)
            spent, answer = replace(meter), None
            put(item)
        meter.closed = True

    def _ask(self, task: Task, ways: Sequence[Params], ask: Ask, meter: Meter) -> Page:
        self.stop.raise_if_over()
        way = ways[ask.way]
        try:
            page = self.api.messages(way, ask.number, meter, size=ask.size, ascending=ask.ascending)
        except ConfigurationError as error:
            self._refused += 1
            if self._may_read_nothing(meter):
                raise
            raise FlowiqError(str(error)) from error
        self._is_answered = True
        if page.rows and len(ways) > 1:
            self._note_way(ways, ask.way)
        if not task.previous.is_read and self.backfill_from is None:
            meter.expected = pages_of(page.total or 0)
        return page

    def _may_read_nothing(self, meter: Meter) -> bool:
        """Whether it is not one conversation alone that the API refuses."""
        if self._refused > MAY_REFUSE and not self._is_answered:
            return True
        try:
            attempt(partial(self.api.contacts, 1, meter, size=1))
        except ConfigurationError:
            return True
        return False

    def _note_way(self, ways: Sequence[Params], found: int) -> None:
        """Prefer what has found messages to what never does: a request is money."""
        first, name = (next(iter(ways[at])) for at in (0, found))
        if not found:
            self._works.add(name)
        if not self.way or first not in self._works:
            self.way = name

    def _settle(self) -> Iterator[ConversationResult]:
        """What has vanished, if it is few enough to be believed; its rows have gone before."""
        judges = self._is_incremental and not self.roster.error
        unlisted = list(self._no_longer_listed()) if judges else []
        # Those that were never read are missing at once, unless that is all there ever was.
        new = sum(not one.task.previous.is_read for one in self._unsettled)
        known = len(self._unsettled) - new
        live = sum(c.is_read and not c.missing for c in self.known.cursors.values())
        # A run with a limit asks for few: those that earlier ones left in doubt count too.
        gone = {one.task.conversation.contact_id: one.status for one in unlisted}
        doubted = {contact_id for contact_id, status in gone.items() if status == "doubtful"}
        in_doubt = self._in_doubt - gone.keys() | doubted
        is_fault = (
            _too_many(self.counts["doubtful"] + known, self._asked + known)
            or (bool(known or doubted) and _too_many(len(in_doubt), live))
            or (new > 1 and not (live or self.counts["complete"]))
        )
        if is_fault and not self.settings.force:
            self.counts["vanished"] = len(in_doubt) + new
            logger.error(
                "%d of %d conversations have vanished at once, which looks like a fault: nothing "
                "is taken for gone; if it is true, run once with force",
                self.counts["vanished"],
                live or new,
            )
        for result in [*self._unsettled, *unlisted]:
            if result.confirmed and (self.settings.force or not is_fault):
                yield replace(result.confirmed, meter=result.meter)
            else:
                yield replace(result, confirmed=None)
        self._unsettled = []

    def _no_longer_listed(self) -> Iterator[ConversationResult]:
        """The conversations whose contacts the API lists no longer; that costs no request."""
        for contact_id, cursor in self.known.cursors.items():
            if contact_id not in self.roster.by_id and cursor.is_read and not cursor.missing:
                task = Task(Conversation(contact_id), cursor, self._rules)
                result = ConversationResult(task, self.now())
                if self._has_another_id(contact_id, cursor):
                    why = "the API lists this contact by another id"
                    yield result.missing(why, unlisted=True, certain=True)
                    continue
                result = result.missing("the API no longer lists this contact", unlisted=True)
                # What the API counts beyond what it lists may be this one.
                yield replace(result, confirmed=None) if self.roster.is_short else result

    def _note_arrival(self, contact_id: str, cursor: Cursor) -> None:
        self._arrived[cursor.who(contact_id)] = contact_id, cursor.known

    def _has_another_id(self, contact_id: str, cursor: Cursor) -> bool:
        """Whether a new conversation has the number of this one, and its messages."""
        other, messages = self._arrived.get(cursor.who(contact_id), (contact_id, 0))
        return other != contact_id and messages >= cursor.known * (1 - MAY_VANISH)

    def _count_requests(self, meter: Meter) -> None:
        self.counts["requests"] += meter.requests
        self.counts["wasted"] += meter.wasted

    def _count(self, result: ConversationResult) -> None:
        previous, contact_id = result.task.previous, result.task.conversation.contact_id
        if result.status == "doubtful" and previous.is_read:
            self._in_doubt.add(contact_id)
        else:
            self._in_doubt.discard(contact_id)
        if not result.unfinished:
            self.counts[result.status] += 1
            self._asked += previous.is_read and not previous.missing
            before = self.known.cursor(contact_id)
            is_new = before.missing or not before.is_read
            if is_new and result.status == "complete" and result.cursor:
                self._note_arrival(contact_id, result.cursor)
        if self.backfill_from is None:
            self.counts["saved"] += result.saved
        if result.status == "failed":
            logger.error("one conversation failed: %s", result.error)


def _too_many(vanished: int, of: int) -> bool:
    return vanished > max(1, of * MAY_VANISH)
