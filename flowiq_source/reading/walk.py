"""Walks over pages that shift while they are read: what is new, when to stop, what adds up.

Pure: pages come from a function, the time from another. The API has page numbers and no cursor
token, so a message that arrives pushes rows onto the next page (they are seen twice) and a
deletion pulls one back (it is never seen). `totalMessages`, which comes with every page, tells.
"""

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from flowiq_source.api.answers import Page, RawRow
from flowiq_source.errors import ConfigurationError, FlowiqError, Inconsistent, NotFound
from flowiq_source.rows.arrow import Digest, MappedPage, from_microseconds, microseconds
from flowiq_source.rows.convert import Mapped

_NEVER = datetime.min.replace(tzinfo=timezone.utc)

MAX_PASSES = 3
"""How often a listing is read from its beginning before a sync calls it too restless."""

Fetch = Callable[[int], Awaitable[Page]]
"""Page number, from 1, to page."""

MapPage = Callable[[Sequence[RawRow], datetime], MappedPage]
"""A page's rows and the time of this pass to rows of the table."""


@dataclass
class Walk:
    """One pass over the pages of a listing."""

    seen: set[str] = field(default_factory=set)
    first_total: int | None = None
    total: int | None = None
    disturbed: bool = False
    """Whether the count has changed in a way that rows pushed over a border do not explain."""
    _copies: Counter[str] = field(default_factory=Counter)
    _border: Sequence[str] = ()

    def add(self, page: Page, keys: Sequence[str]) -> list[str | None]:
        """The final id of every row of the next page; None for a row that was seen before.

        Raises:
            Inconsistent: the page brings nothing new and yet says that another follows.
        """
        grown = self._note_total(page.total)
        repeated = self._overlap(keys, grown)
        self.disturbed = self.disturbed or grown != repeated
        ids = [None] * repeated + [self._enter(key) for key in keys[repeated:]]
        self._border = keys
        if page.more and grown <= 0 and not any(ids):
            raise Inconsistent(
                "the API hands out the same rows again and says that more follow: "
                "it repeats a page; run again later"
            )
        return ids

    def _note_total(self, total: int | None) -> int:
        """How many rows the listing has gained since the last page."""
        grown = (total or 0) - (self.total or 0) if self.total is not None else 0
        if self.first_total is None:
            self.first_total = total
        self.total = total
        return grown

    def _overlap(self, keys: Sequence[str], grown: int) -> int:
        """How many rows at the head of the page are the last page's tail, pushed over the border.

        Rows without ids can only be told from true equals by how many rows have arrived.
        """
        for size in range(min(grown, len(keys), len(self._border)), 0, -1):
            if list(self._border[-size:]) == list(keys[:size]):
                return size
        return 0

    def _enter(self, key: str) -> str | None:
        row_id = key
        if isinstance(key, Digest):
            self._copies[key] += 1
            if self._copies[key] > 1:
                row_id = f"{key}-{self._copies[key]}"
        if row_id in self.seen:
            return None
        self.seen.add(row_id)
        return row_id

    @property
    def adds_up(self) -> bool:
        """Whether a pass to the end saw every row that the API counted when it began.

        Rows that arrived since are on pages that were read before; the next sync reads them.
        """
        return not self.disturbed and self.first_total in (None, len(self.seen))


class Cursor(NamedTuple):
    """What is kept of a conversation from one sync to the next; all times UTC."""

    newest: datetime | None
    """Newest timestamp read, but never past the start of the run that read it."""
    known: int
    """Messages at or before `newest`; rows that no time is known of belong to them."""
    rescanned_at: datetime
    """When every page was last read from end to end."""
    synced_at: datetime
    """When the run began that last read the conversation at all."""
    missing: bool = False
    """Whether the API had no such conversation."""
    first_page: str = ""
    """The fingerprint of its first page, when it was last read to where it had to be."""


@dataclass
class Reading:
    """What one run read of one conversation."""

    status: str = "failed"
    error: str | None = None
    pages: list[MappedPage] = field(default_factory=list)
    message_count: int | None = None
    synced_at: datetime = _NEVER
    rescanned_at: datetime | None = None
    cursor: Cursor | None = None
    """Where the next sync starts; None when this one proved nothing."""
    discarded: int = 0
    """Pages of passes that did not add up."""

    @property
    def rows(self) -> int:
        """How many messages it has."""
        return sum(len(page.keys) for page in self.pages)

    @property
    def mapped(self) -> list[Mapped]:
        """Its rows that are no columns."""
        return [mapped for page in self.pages for mapped in page.mapped.values()]

    @property
    def times(self) -> Iterator[int]:
        """The times that are known of its messages, epoch microseconds."""
        return (time for page in self.pages for time in page.times if time is not None)

    @property
    def last_message_at(self) -> datetime | None:
        """The newest time on any row."""
        newest = max(self.times, default=None)
        return None if newest is None else from_microseconds(newest)


@dataclass(frozen=True)
class Task:
    """How one conversation is to be read; all times UTC.

    `since` None reads to the beginning. Without a `cursor` nothing is known of what older pages
    hold: the walk ends where `since` says, as a backfill wants it.
    """

    fetch: Fetch
    map_page: MapPage
    started_at: datetime
    """When the run began."""
    now: Callable[[], datetime]
    since: datetime | None = None
    cursor: Cursor | None = None


def lookback_start(cursor: Cursor | None, lookback: timedelta) -> datetime | None:
    """From where an incremental sync rereads; None is from the beginning."""
    if cursor is None or cursor.newest is None:
        return None
    try:
        return cursor.newest - lookback
    except OverflowError:
        return None


def is_settled(cursor: Cursor, last_message_at: datetime | None, lookback: timedelta) -> bool:
    """Whether the time of the last message tells that a sync would find nothing.

    The conversation was read since, and not before the last message had left the lookback.
    """
    if last_message_at is None or cursor.newest is None or cursor.missing:
        return False
    return last_message_at <= cursor.newest and cursor.synced_at - last_message_at >= lookback


async def read_conversation(task: Task) -> Reading:
    """Everything that a run has to know of one conversation; errors are in the reading.

    Raises:
        ConfigurationError: no conversation can be read.
    """
    reading = Reading(rescanned_at=task.cursor.rescanned_at if task.cursor else None)
    try:
        for _ in range(MAX_PASSES):
            if await _pass(task, reading):
                return reading
        reading.error = (
            f"the API counts {reading.message_count} messages and handed out "
            f"{reading.rows}, {MAX_PASSES} times: it was changing, or its count is wrong"
        )
    except ConfigurationError:
        raise
    except NotFound as error:
        note_missing(reading, task.cursor, str(error))
    except FlowiqError as error:
        reading.error = str(error)
    return reading


def note_missing(reading: Reading, previous: Cursor | None, error: str) -> None:
    """The API has no such conversation: whatever was loaded of it is gone there."""
    reading.status, reading.error = "missing", error
    reading.pages, reading.rescanned_at = [], reading.synced_at
    newest, known = (previous.newest, previous.known) if previous else (None, 0)
    at = reading.synced_at
    reading.cursor = Cursor(newest, known, at, at, missing=True)


async def _pass(task: Task, reading: Reading) -> bool:
    """Read from page 1 as far as needed; whether the result adds up."""
    walk = Walk()
    reading.pages = []
    reading.synced_at = max(task.now(), reading.synced_at + timedelta(microseconds=1))
    may_stop, fingerprint = task.since is not None, ""
    for number in itertools.count(1):
        page = await task.fetch(number)
        if number == 1 and (unchanged := _unchanged(task.cursor, page)):
            _note_unchanged(reading, unchanged._replace(synced_at=task.started_at), page)
            return True
        fingerprint = fingerprint or page.fingerprint
        mapped = task.map_page(page.rows, reading.synced_at)
        reading.pages.append(mapped.keep(walk.add(page, mapped.keys)))
        reading.message_count = walk.first_total
        if not page.more:
            break
        if may_stop and _reaches(task.since, mapped):
            may_stop = _explained(task.cursor, walk, reading)
            if may_stop:
                break
    if walk.disturbed or not (page.more or walk.adds_up):
        reading.discarded += number
        return False
    if not page.more:
        reading.rescanned_at = reading.synced_at
    known = (walk.first_total or 0) if page.more else len(walk.seen)
    reading.status = "complete"
    reading.cursor = _next_cursor(task, reading, known, fingerprint)
    return True


def _unchanged(cursor: Cursor | None, page: Page) -> Cursor | None:
    """The cursor, if the first page is what it was when the cursor was made.

    Without a count it would say nothing of the pages behind it.
    """
    if cursor is None or page.total is None or not page.fingerprint:
        return None
    return cursor if page.fingerprint == cursor.first_page else None


def _note_unchanged(reading: Reading, cursor: Cursor, page: Page) -> None:
    """Nothing is new: no row is written, and what was read to its end before still counts."""
    reading.status, reading.message_count = "complete", page.total
    reading.cursor = cursor


def _reaches(since: datetime | None, mapped: MappedPage) -> bool:
    """Whether the page ends before `since`, so that every later page is older."""
    if since is None:
        return False
    bound = microseconds(since)
    return any(time is not None and time < bound for time in mapped.times)


def _explained(cursor: Cursor | None, walk: Walk, reading: Reading) -> bool:
    """Whether the API's count is what was known plus what is new.

    If it is not, a message arrived late with an old time, or one is gone: read on to the end.
    """
    if cursor is None:
        return True
    if walk.first_total is None:
        return False
    return walk.first_total - count_after(cursor.newest, reading) == cursor.known


def _next_cursor(task: Task, reading: Reading, known: int, first_page: str) -> Cursor:
    newest = reading.last_message_at
    # A message dated in the future must not hide the ones that arrive before that date.
    newest = min(newest, task.started_at) if newest else None
    at_or_before = known - count_after(newest, reading)
    rescanned_at = reading.rescanned_at or reading.synced_at
    return Cursor(newest, at_or_before, rescanned_at, task.started_at, first_page=first_page)


def count_after(time: datetime | None, reading: Reading) -> int:
    """How many messages of the reading are newer than a time; None is before all of them."""
    if time is None:
        return sum(1 for _ in reading.times)
    bound = microseconds(time)
    return sum(at > bound for at in reading.times)
