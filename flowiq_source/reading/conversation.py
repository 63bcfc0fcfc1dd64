"""Whose conversation is read, how it is asked for, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from flowiq_source.api.client import Meter, Params
from flowiq_source.reading.cursor import Cursor
from flowiq_source.reading.walk import Result
from flowiq_source.rows.convert import Row
from flowiq_source.settings import pages_of


class Conversation(NamedTuple):
    """Whose conversation, how the API is asked for it, and what the contact list says of it."""

    contact_id: str
    whatsapp_id: str | None = None
    ways: Sequence[Params] = ()
    """The addresses to ask by, the preferred one first."""
    last_message_at: datetime | None = None
    unread: bool = False

    def is_active_after(self, cursor: Cursor) -> bool:
        """Whether the contact list shows more than was read."""
        later = self.last_message_at is not None and (
            cursor.newest is None or self.last_message_at > cursor.newest
        )
        return later or self.unread


class Due(NamedTuple):
    """A conversation to read, to its beginning if it is to be read `whole`; what is known of it."""

    conversation: Conversation
    cursor: Cursor = Cursor()
    whole: bool = False

    @property
    def expected(self) -> int:
        """Requests that it will cost, as far as is known: one, where the API has not said more."""
        return pages_of(self.cursor.known) if self.cursor.is_read and self.whole else 1


@dataclass
class ConversationResult:
    """What came of one conversation."""

    conversation: Conversation
    result: Result
    previous: Cursor
    meter: Meter = field(default_factory=Meter)
    backfill: bool = False
    is_settled: bool = True
    """Whether its row of `conversations` can be written; else that waits for the run's end."""

    @property
    def newer(self) -> int:
        """Messages newer than what the sync before read."""
        return self.result.count_after(self.previous.newest)

    @property
    def wasted(self) -> int:
        """Requests whose answers were of no use: faults, and passes that did not add up."""
        return self.meter.wasted + self.result.discarded

    @property
    def saved(self) -> int:
        """Requests that reading the whole conversation would have cost on top."""
        asked = self.meter.requests - self.wasted
        if asked <= 0 or self.result.status != "complete" or self.result.message_count is None:
            return 0
        return max(0, pages_of(self.result.message_count) - asked)

    def row(self, tenant_id: str) -> Row:
        """The `conversations` row; what this run did not learn is kept."""
        result, previous = self.result, self.previous
        times = [at for at in (result.last_message_at, previous.newest) if at]
        count, cursor = result.message_count, result.cursor or previous
        if count is None and previous.is_read and result.status != "complete":
            count = previous.known + previous.surplus
        status, error = result.status, result.error
        if result.unfinished:
            status, error = "failed", "it is long: the next sync goes on where this one ended"
        return {
            "tenant_id": tenant_id,
            "contact_id": self.conversation.contact_id,
            "whatsapp_id": self.conversation.whatsapp_id,
            "status": status,
            "message_count": count,
            "surplus": cursor.surplus,
            "scan": cursor.scan,
            "last_message_at": max(times, default=None),
            "synced_at": result.synced_at,
            "rescanned_at": result.rescanned_at
            or (previous.rescanned_at if previous.scan else None),
            "requests": self.meter.requests,
            "error": error,
        }
