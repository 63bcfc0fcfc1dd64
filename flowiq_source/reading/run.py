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
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from datetime import datetime

from flowiq_source.api.answers import RawRow
from flowiq_source.api.client import Meter
from flowiq_source.errors import ConfigurationError
from flowiq_source.reading.conversation import Conversation, ConversationResult, Due
from flowiq_source.reading.cursor import Cursor
from flowiq_source.reading.listing import Api, Listed, Roster, list_all, list_chosen
from flowiq_source.reading.pool import Job, Pool, Put, Stop
from flowiq_source.reading.schedule import Budget, Rules, Schedule, make_schedule
from flowiq_source.reading.walk import (
    PART_ROWS,
    Result,
    Task,
    Walk,
    doubted,
    gone,
    read_conversation,
)
from flowiq_source.rows.arrow import MappedPage
from flowiq_source.rows.convert import Mapped, Origin
from flowiq_source.settings import Settings, pages_of

logger = logging.getLogger("flowiq_source")

READ_AHEAD_ROWS = 20_000
"""How many messages are read while a package is loaded."""

MAY_VANISH = 0.1
"""More than this share of a tenant's conversations do not vanish in one run: that is a fault."""


@dataclass
class Known:
    """What is known of a tenant before a run."""

    cursors: dict[str, Cursor] = field(default_factory=dict)
    number: int = 1
    """The run's number; that of a run which broke off, if this one goes on with it."""
    started_at: datetime | None = None
    """When that one began."""

    def cursor(self, contact_id: str) -> Cursor:
        """What is known of a conversation."""
        return self.cursors.get(contact_id, Cursor())

    def forget(self) -> None:
        """Know nothing but the numbers of readings, which must go on rising."""
        self.cursors = {c: Cursor(used=cursor.used) for c, cursor in self.cursors.items()}


MapContact = Callable[[RawRow, datetime], Mapped]
MapPage = Callable[[Sequence[RawRow], Origin], MappedPage]


@dataclass
class Run:
    """One run; `counts` says what it found and spent.

    `counts` has `requests`, `planned`, `saved`, `wasted`, `complete`, `missing`, `doubtful`,
    `failed`, `quiet`, `newer`, `stale`, `vanished`, `unlisted`, `carried_over`.
    """

    api: Api
    settings: Settings
    known: Known
    map_contact: MapContact
    map_page: MapPage
    now: Callable[[], datetime]
    stop: Stop = field(default_factory=Stop)
    check: Callable[[], object] = lambda: None
    """Raises what ends the run while it waits."""
    backfill_from: datetime | None = None
    at_most: int | None = None
    """How many conversations somebody wants; the others are carried over."""
    part_rows: int = PART_ROWS
    """How many rows of one conversation are held in memory, about."""
    counts: Counter[str] = field(default_factory=Counter)
    roster: Roster = field(default_factory=Roster)
    due: int = 0
    """How many conversations it had to read when it began."""
    left: int = 0
    """How many of them are in no package yet."""
    is_listed: bool = False
    _pool: Pool[ConversationResult] | None = None
    _unsettled: list[ConversationResult] = field(default_factory=list)
    _asked: int = 0
    """How many conversations it has asked for that there were before."""
    _by_number: bool = False
    """Whether asking by contact id finds nothing, and by number does."""

    def __post_init__(self) -> None:
        self.started_at = self.known.started_at or self.now()
        minutes = self.settings.max_minutes
        deadline_s = None if minutes is None else time.monotonic() + minutes * 60
        self._budget = Budget(self.settings.max_requests, deadline_s)

    def contacts(self) -> Iterator[Listed]:
        """The contacts, page by page.

        Raises:
            FlowiqError: the list cannot be read; nothing else can be either.
        """
        numbers = self.settings.phone_numbers
        shared = (self.api, self._map_contact, self.roster, self.check)
        pages = (
            list_all(*shared)
            if numbers is None
            else list_chosen(*shared, numbers, len(self.known.cursors))
        )
        most = self.settings.max_requests or math.inf
        for listed in pages:
            is_spent = self.counts["requests"] >= most
            self._check_budget(listed.pages)
            self._budget.spend(listed.meter.requests)
            self.counts["requests"] += listed.meter.requests
            self.counts["wasted"] += listed.meter.wasted
            self.counts["planned"] += 1
            yield listed
            if is_spent:
                self.roster.note("max_requests is spent")
                break
        self.is_listed = True
        self.counts["wasted"] += self.roster.wasted
        self.counts["unlisted"] += self.roster.unlisted
        for position in self.roster.unknown_numbers:
            logger.warning("phone number %d of %d: no contact", position, len(numbers or ()))
        if self.roster.error:
            logger.error("the list of contacts is not complete: %s", self.roster.error)

    def _map_contact(self, raw: RawRow) -> Mapped:
        return self.map_contact(raw, self.now())

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
        for result in self._pool or ():
            self.left -= not result.result.unfinished
            yield self._counted(self._weighed(result))
            if is_full() and self.left:
                return
        self.left = 0
        for settled in self._settle():
            yield self._counted(settled, are_requests_new=False)
        self.close()

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
        self.counts["planned"] += sum(due.expected for due in schedule.due)
        self.due = self.left = len(schedule.due)
        self._pool = Pool(
            self._jobs(deque(schedule.due)),
            weigh=lambda one: 10 + one.result.rows,
            limit=READ_AHEAD_ROWS,
            check=self.check,
        )

    def _schedule(self) -> Schedule:
        conversations = self.roster.conversations
        if self.backfill_from is not None or self.settings.phone_numbers is not None:
            whole = self.settings.full_refresh
            cursors = ((c, self.known.cursor(c.contact_id)) for c in conversations)
            return Schedule([Due(c, cursor, whole) for c, cursor in cursors])
        rules = Rules(
            self.known.number,
            self.started_at,
            self.settings.lookback,
            self.settings.full_refresh,
            self.settings.rescan_share,
        )
        return make_schedule(conversations, self.known.cursor, rules)

    def _jobs(self, due: deque[Due]) -> Iterator[Job[ConversationResult]]:
        """The reading of as many conversations as go into the budget."""
        for begun in itertools.count():
            if not due:
                return
            meter = self._budget.begin(due[0].expected, time.monotonic())
            if meter is None or begun == self.at_most:
                self.counts["carried_over"] += len(due)
                self.left -= len(due)
                return
            yield self._job(due.popleft(), meter)

    def _job(self, due: Due, meter: Meter) -> Job[ConversationResult]:
        def run(put: Put[ConversationResult]) -> None:
            spent = Meter()
            for task, result in self._readings(due, meter):
                part = Meter(meter.requests - spent.requests, meter.wasted - spent.wasted)
                spent = Meter(meter.requests, meter.wasted)
                backfill = self.backfill_from is not None
                put(ConversationResult(due.conversation, result, task.previous, part, backfill))
            meter.closed = True

        return run

    def _readings(self, due: Due, meter: Meter) -> Iterator[tuple[Task, Result]]:
        """The conversation, in as many parts as it takes."""
        task = self._task(due)
        while True:
            ways = list(due.conversation.ways)
            if self._by_number:
                ways.reverse()
            result = self._drive(read_conversation(task), ways, meter, task.previous)
            yield task, result
            if not result.unfinished:
                return
            task = replace(task, previous=result.cursor or task.previous, whole=False)

    def _task(self, due: Due) -> Task:
        conversation, previous = due.conversation, due.cursor
        return Task(
            map_page=lambda rows, at, scan: self.map_page(
                rows, self._origin(conversation, at, scan)
            ),
            now=self.now,
            run=self.known.number,
            started_at=self.started_at,
            lookback=self.settings.lookback,
            previous=previous,
            whole=due.whole,
            backfill_from=self.backfill_from,
            ways=len(conversation.ways),
            expects_messages=bool(previous.known) or conversation.is_active_after(previous),
            part_rows=self.part_rows,
        )

    def _origin(self, conversation: Conversation, at: datetime, scan: int) -> Origin:
        return Origin(
            tenant_id=self.settings.tenant_key,
            contact_id=conversation.contact_id,
            whatsapp_id=conversation.whatsapp_id,
            synced_at=at,
            scan=scan,
        )

    def _drive(
        self,
        walk: Walk,
        ways: Sequence[dict[str, str]],
        meter: Meter,
        previous: Cursor,
    ) -> Result:
        """Ask for the pages that the walk wants."""
        try:
            ask = next(walk)
            while True:
                self.stop.raise_if_over()
                try:
                    page = self.api.messages(
                        ways[ask.way], ask.number, meter, size=ask.size, ascending=ask.ascending
                    )
                except (ConfigurationError, CancelledError):
                    raise
                except Exception as error:  # noqa: BLE001 - the walk decides what it means
                    ask = walk.throw(error)
                    continue
                if ask.way and page.rows and len(ways) > 1 and ways[0].get("contactId"):
                    self._by_number = True
                if not previous.is_read and self.backfill_from is None:
                    meter.expected = pages_of(page.total or 0)
                ask = walk.send(page)
        except StopIteration as end:
            result: Result = end.value
            return result

    def _weighed(self, one: ConversationResult) -> ConversationResult:
        """The result, or what can be said of it before the other conversations are known."""
        if one.result.vanished:
            self._unsettled.append(one)
            seen = replace(one.result, cursor=one.result.doubt, status="doubtful")
            return replace(one, result=seen, is_settled=False)
        return one

    def _settle(self) -> Iterator[ConversationResult]:
        """What has vanished, if it is few enough to be believed."""
        judges = self.backfill_from is None and self.settings.phone_numbers is None
        unlisted = list(self._no_longer_listed()) if judges and not self.roster.error else []
        vanished = [*self._unsettled, *(one for one in unlisted if one.result.vanished)]
        doubtful = self.counts["doubtful"] + len(self._unsettled)
        asked = self._asked + len(self._unsettled)
        live = sum(c.is_read and not c.missing for c in self.known.cursors.values())
        too_many = _too_many(doubtful, asked) or _too_many(len(unlisted), live)
        self._unsettled = []
        if too_many and not self.settings.force:
            self.counts["vanished"] = doubtful + len(unlisted)
            logger.error(
                "%d of %d conversations have vanished at once, which looks like a fault: nothing "
                "is taken for gone; if it is true, run once with force",
                self.counts["vanished"],
                live,
            )
        for one in vanished:
            if too_many and not self.settings.force:
                one.result.status, one.result.cursor = "doubtful", one.result.doubt
                one.result.rescanned_at = None
            # Its rows have gone before.
            one.result.pages = []
            yield one
        yield from (one for one in unlisted if not one.result.vanished)

    def _no_longer_listed(self) -> Iterator[ConversationResult]:
        """The conversations whose contacts the API lists no longer; that costs no request."""
        for contact_id, cursor in self.known.cursors.items():
            if contact_id in self.roster.by_id or cursor.missing or not cursor.is_read:
                continue
            result = Result(synced_at=self.now(), error="the API no longer lists this contact")
            run, at = self.known.number, self.started_at
            result.doubt = doubted(cursor, run, at, unlisted=True)
            # What the API counts beyond what it lists may be this one.
            result.vanished = cursor.doubtful and cursor.run != run and not self.roster.is_short
            result.status, result.cursor = "doubtful", result.doubt
            if result.vanished:
                result.status, result.rescanned_at = "missing", result.synced_at
                result.cursor = gone(cursor, run, at, unlisted=True)
            yield ConversationResult(Conversation(contact_id), result, cursor)

    def _counted(
        self, one: ConversationResult, *, are_requests_new: bool = True
    ) -> ConversationResult:
        if are_requests_new:
            self.counts["requests"] += one.meter.requests
            self.counts["wasted"] += one.wasted
        if not one.result.unfinished and one.is_settled:
            self.counts[one.result.status] += 1
            self._asked += one.previous.is_read and not one.previous.missing
        if not one.backfill:
            self.counts["newer"] += one.newer
            self.counts["saved"] += one.saved
        if one.result.status == "failed":
            logger.error("one conversation failed: %s", one.result.error)
        return one


def _too_many(vanished: int, of: int) -> bool:
    return vanished > max(1, of * MAY_VANISH)
