"""Whose conversation is read, how it is asked for, and what came of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from flowiq_source.api.client import Meter, Params
from flowiq_source.reading.cursor import Cursor
from flowiq_source.rows.arrow import MappedPage
from flowiq_source.rows.convert import Mapped, Origin, Row
from flowiq_source.settings import pages_of
from flowiq_source.times import from_microseconds, microseconds

PART_ROWS = 10_000
"""A conversation with more to read than this is read in parts, oldest first."""


class Conversation(NamedTuple):
    """Whose conversation, how the API is asked for it, and what the contact list says of it."""

    contact_id: str
    whatsapp_id: str | None = None
    ways: Sequence[Params] = ()
    """The addresses to ask by, the preferred one first."""
    last_message_at: datetime | None = None
    unread: bool = False
    number: str = ""
    """Short for the number of its contact, where that is not the id."""

    def is_active_after(self, cursor: Cursor) -> bool:
        """Whether the contact list shows more than was read."""
        later = self.last_message_at is not None and (
            cursor.newest is None or self.last_message_at > cursor.newest
        )
        return later or self.unread

    @property
    def activity(self) -> str:
        """The same in two runs between which the contact list shows nothing new of it."""
        return f"{self.last_message_at or ''}{'*' * self.unread}"


@dataclass(frozen=True)
class Rules:
    """What holds for all conversations of a run; `rescan_share` as for `flowiq_source`."""

    run: int
    """Its number: a conversation whose cursor has it was read by this run before it broke off."""
    started_at: datetime
    lookback: timedelta
    full_refresh: bool = False
    rescan_share: float = 0.0
    tenant_id: str = ""
    backfill_from: datetime | None = None
    """Read back to there; nothing is concluded of the whole."""
    doubts_ways: bool = False
    """Whether nobody has a message as far as is known: the API may know them by other addresses."""
    part_rows: int = PART_ROWS
    """How many rows of one conversation are held in memory, about; a longer one comes in parts."""


class Task(NamedTuple):
    """A conversation to read, to its beginning if `whole`; `previous` is what is known of it."""

    conversation: Conversation
    previous: Cursor
    rules: Rules
    whole: bool = False

    @property
    def expected(self) -> int:
        """Requests that it will cost, as far as is known: one, where the API has not said more."""
        return pages_of(self.previous.known) if self.previous.is_read and self.whole else 1

    @property
    def trusted(self) -> Cursor | None:
        """What may be relied on: where nothing is known, the reading goes to the beginning."""
        doubted = self.previous.missing or self.previous.doubtful or not self.previous.is_read
        return None if self.whole or self.rules.backfill_from or doubted else self.previous

    @property
    def since(self) -> datetime | None:
        """How far back to read; None is to the beginning."""
        lookback = self.trusted and self.trusted.since(self.rules.lookback)
        return self.rules.backfill_from or lookback

    @property
    def begin(self) -> int:
        """The page to begin with; above 1 where a reading in parts goes on."""
        return 1 if self.whole else self.previous.next_page or 1

    @property
    def scan(self) -> int:
        """The number of this reading."""
        return self.previous.used + (self.begin == 1)

    @property
    def expects_messages(self) -> bool:
        """Whether the contact list, or what was read before, says that there are messages."""
        is_active = self.conversation.is_active_after(self.previous)
        return bool(self.previous.known) or is_active or self.rules.doubts_ways

    def origin(self, at: datetime) -> Origin:
        """What its rows say of this reading."""
        return Origin(
            tenant_id=self.rules.tenant_id,
            contact_id=self.conversation.contact_id,
            whatsapp_id=self.conversation.whatsapp_id,
            synced_at=at,
            scan=self.scan,
        )

    def move(self, **changes: Any) -> Cursor:
        """What is known of it with some changes, as this run leaves it."""
        changes |= {"run": self.rules.run, "synced_at": self.rules.started_at}
        return self.previous._replace(**changes)


@dataclass
class ConversationResult:
    """What one run read of one conversation, or one part of that."""

    task: Task
    synced_at: datetime
    status: str = "failed"
    """`complete`, `failed`, `missing` or `doubtful`, as the column of `conversations`."""
    error: str | None = None
    pages: list[MappedPage] = field(default_factory=list)
    message_count: int | None = None
    """The API's own."""
    rescanned_at: datetime | None = None
    cursor: Cursor | None = None
    """Where the next sync starts; None where nothing is to be kept."""
    discarded: int = 0
    """Pages of passes that did not add up."""
    unfinished: bool = False
    """Whether this is one part of a long conversation, and `cursor` says how to go on."""
    confirmed: "ConversationResult | None" = None
    """Of what is doubtful: what it is, apart from the pages, if not too much else has vanished."""
    meter: Meter = field(default_factory=Meter)

    @property
    def is_settled(self) -> bool:
        """Whether its row of `conversations` can be written; else that waits for the run's end."""
        return self.confirmed is None

    @property
    def rows(self) -> int:
        """How many messages it has."""
        return sum(len(page.keys) for page in self.pages)

    @property
    def mapped(self) -> Iterator[Mapped]:
        """Its rows that are no columns."""
        return (mapped for page in self.pages for mapped in page.mapped.values())

    @property
    def times(self) -> Iterator[int]:
        """The times that are known of its messages, epoch microseconds."""
        return (time for page in self.pages for time in page.times if time is not None)

    @property
    def last_message_at(self) -> datetime | None:
        """The newest time on any row."""
        newest = max(self.times, default=None)
        return None if newest is None else from_microseconds(newest)

    def count_after(self, time: datetime | None) -> int:
        """How many messages are newer than a time; None is before all of them."""
        if time is None:
            return sum(1 for _ in self.times)
        bound = microseconds(time)
        return sum(at > bound for at in self.times)

    @property
    def saved(self) -> int:
        """Requests that reading the whole conversation would have cost on top."""
        asked = self.meter.requests - self.meter.wasted
        if asked <= 0 or self.status != "complete" or self.message_count is None:
            return 0
        if self.unfinished or self.rescanned_at:
            return 0
        return max(0, pages_of(self.message_count) - asked)

    @property
    def lost(self) -> int:
        """How many of the messages that were known it does not show, if it was read whole."""
        previous, cursor = self.task.previous, self.cursor
        is_whole = self.status == "complete" and self.rescanned_at and not self.unfinished
        if not (is_whole and cursor and previous.is_read) or self.task.begin > 1:
            return 0
        new = self.count_after(previous.newest) if previous.newest else 0
        return max(0, previous.known + new - cursor.known - self.count_after(cursor.newest))

    def doubted(self, error: str) -> "ConversationResult":
        """Nothing, or far less than was known: gone only if a later run sees the same."""
        previous, unlisted = self.task.previous, bool(self.cursor and self.cursor.unlisted)
        is_second = previous.doubtful and previous.run != self.task.rules.run
        used = max(self.task.scan, previous.used)
        return replace(
            self,
            status="doubtful",
            error=error,
            rescanned_at=None,
            cursor=self.task.move(doubtful=True, unlisted=unlisted, first_page="", used=used),
            confirmed=replace(self, pages=[]) if is_second else None,
        )

    def missing(
        self, error: str, *, unlisted: bool = False, certain: bool = False
    ) -> "ConversationResult":
        """The API has no such conversation, or lists no such contact: all messages are gone."""
        task, previous = self.task, self.task.previous
        result = replace(self, status="missing", error=error, pages=[])
        if task.rules.backfill_from:
            return result
        state: dict[str, Any] = {"missing": True, "doubtful": False, "unlisted": unlisted}
        state |= {"first_page": task.conversation.activity, "next_page": 0}
        scan = previous.used + 1
        result.rescanned_at = self.synced_at
        result.cursor = task.move(scan=scan, used=scan, rescanned_at=task.rules.started_at, **state)
        if certain:
            return result
        if unlisted or (previous.known and not previous.missing):
            return result.doubted(error)
        # There was nothing to lose. Where that is all that the API ever says, it is a fault.
        return result if previous.is_read else replace(result.doubted(error), confirmed=result)

    def row(self, tenant_id: str) -> Row:
        """The `conversations` row; what this run did not learn is kept."""
        previous, cursor = self.task.previous, self.cursor or self.task.previous
        times = [at for at in (self.last_message_at, previous.newest) if at]
        count, status, error = self.message_count, self.status, self.error
        if count is None and previous.is_read and status != "complete":
            count = previous.known + previous.surplus
        if self.unfinished:
            status, error = "failed", "it is long: the next sync goes on where this one ended"
        return {
            "tenant_id": tenant_id,
            "contact_id": self.task.conversation.contact_id,
            "whatsapp_id": self.task.conversation.whatsapp_id,
            "status": status,
            "message_count": count,
            "surplus": cursor.surplus,
            "scan": cursor.scan,
            "last_message_at": max(times, default=None),
            "synced_at": self.synced_at,
            "rescanned_at": self.rescanned_at or (previous.rescanned_at if previous.scan else None),
            "requests": self.meter.requests,
            "error": error,
        }
