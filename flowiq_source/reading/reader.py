"""What one run asks of one tenant: its contacts first, then each conversation.

Nothing here knows dlt. What comes out are events: `Listed` for every page of contacts, one
`Roster` when the list is complete, `Reads` for the conversations.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, NamedTuple

from flowiq_source.api.answers import Page, ReadRows
from flowiq_source.api.client import FlowiqClient, Meter, Params, logger
from flowiq_source.api.in_flight import in_order
from flowiq_source.errors import NotFound
from flowiq_source.reading.walk import (
    MAX_PASSES,
    Cursor,
    Reading,
    Task,
    Walk,
    count_after,
    lookback_start,
    note_missing,
    read_conversation,
)
from flowiq_source.rows.arrow import MappedPage, Origin, map_page, read_rows
from flowiq_source.rows.convert import Mapped, Row, contact_number, contact_row, rejected_rows
from flowiq_source.settings import pages_of


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(timezone.utc)


class Conversation(NamedTuple):
    """Whose conversation, how the API is asked for it, and what the contact list says of it."""

    contact_id: str
    whatsapp_id: str | None
    who: Params
    last_message_at: datetime | None = None
    unread: bool = False


class Due(NamedTuple):
    """A conversation to read, to its beginning if it is to be read `whole`; what is known of it."""

    conversation: Conversation
    cursor: Cursor | None = None
    whole: bool = False

    @property
    def expected(self) -> int:
        """Requests that it will cost, as far as is known: one, where the API has not said more."""
        return pages_of(self.cursor.known) if self.cursor and self.whole else 1


@dataclass(frozen=True)
class Listed:
    """Contacts that a page, or a search by phone, showed for the first time in this run."""

    contacts: list[Mapped]
    meter: Meter
    pages: int = 1
    """Requests that the whole list costs, as far as is known."""


@dataclass(frozen=True)
class Roster:
    """Every conversation to read. `unlisted`: contacts that the API counts and never listed."""

    conversations: list[Conversation]
    unlisted: int = 0
    wasted: int = 0
    """Requests of passes over the list that did not add up."""
    unknown_numbers: list[int] = field(default_factory=list)
    """Positions, from 1, in `phone_numbers` that the API knows no contact for."""


@dataclass(frozen=True)
class ConversationRead:
    """What came of one conversation."""

    conversation: Conversation
    reading: Reading
    previous: Cursor | None
    meter: Meter
    backfill: bool = False

    @property
    def newer(self) -> int:
        """Messages newer than what the sync before read."""
        return count_after(self.previous.newest if self.previous else None, self.reading)

    @property
    def wasted(self) -> int:
        """Requests whose answers were of no use: faults, and passes that did not add up."""
        return self.meter.wasted + self.reading.discarded

    @property
    def saved(self) -> int:
        """Requests that reading the whole conversation would have cost on top."""
        if self.reading.status != "complete" or self.reading.message_count is None:
            return 0
        asked = self.meter.requests - self.wasted
        return max(0, pages_of(self.reading.message_count) - asked)


@dataclass(frozen=True)
class Reads:
    """Conversations that travel together."""

    reads: list[ConversationRead]


Event = Listed | Roster | Reads


@dataclass(frozen=True)
class Reader:
    """Reads one tenant. It holds nothing that changes."""

    client: FlowiqClient
    lookback: timedelta
    phone_numbers: Sequence[str] | None = None
    now: Callable[[], datetime] = utc_now
    read_rows: ReadRows = read_rows

    @property
    def tenant_id(self) -> str:
        """The `tenant_id` of every row."""
        return self.client.settings.tenant_key

    def contacts(self) -> Iterator[Listed | Roster]:
        """All contacts, or those with the chosen phone numbers, and then the roster.

        Raises:
            FlowiqError: the list cannot be read; nothing else can be either.
        """
        if self.phone_numbers is None:
            return self._all_contacts()
        return self._chosen_contacts(self.phone_numbers)

    def _all_contacts(self) -> Iterator[Listed | Roster]:
        roster: dict[str, Conversation] = {}
        wasted = pages = 0
        for _ in range(MAX_PASSES):
            walk, wasted, pages = Walk(), wasted + pages, 0
            for listed in self._contact_pages(walk, roster):
                pages += 1
                yield listed
            if walk.adds_up:
                break
        unlisted = 0 if walk.adds_up else max(1, (walk.total or 0) - len(walk.seen))
        yield Roster(list(roster.values()), unlisted, wasted)

    def _contact_pages(self, walk: Walk, roster: dict[str, Conversation]) -> Iterator[Listed]:
        number, more, expected = 1, True, 1
        while more:
            # Past what the first page promised there is one more page at a time.
            last = max(number, expected)
            for page, meter in in_order(self._contacts(n) for n in range(number, last + 1)):
                synced_at = self.now()
                mapped = [contact_row(raw, self.tenant_id, synced_at) for raw in page.rows]
                walk.add(page, [m.row["id"] for m in mapped])
                yield Listed(_enrol(mapped, roster), meter, pages_of(page.total or 0))
                number, more = number + 1, page.more
                if not more:
                    break
            expected = pages_of(page.total or 0)

    async def _contacts(self, number: int) -> tuple[Page, Meter]:
        meter = Meter()
        return await self.client.contacts(number, meter), meter

    def _chosen_contacts(self, phone_numbers: Sequence[str]) -> Iterator[Listed | Roster]:
        roster: dict[str, Conversation] = {}
        unknown = []
        pages = len(phone_numbers)
        tasks = (self._found(digits) for digits in phone_numbers)
        for position, (found, meter) in enumerate(in_order(tasks), start=1):
            if found is None:
                unknown.append(position)
                logger.warning("phone number %d of %d: no contact", position, pages)
            contacts = [] if found is None else _enrol([found], roster)
            yield Listed(contacts, meter, pages)
        yield Roster(list(roster.values()), unknown_numbers=unknown)

    async def _found(self, digits: str) -> tuple[Mapped | None, Meter]:
        meter = Meter()
        try:
            raw = await self.client.contact_by_phone(digits, meter)
        except NotFound:
            return None, meter
        return contact_row(raw, self.tenant_id, self.now()), meter

    async def conversation(
        self,
        due: Due,
        started_at: datetime,
        *,
        since: datetime | None = None,
        meter: Meter | None = None,
    ) -> ConversationRead:
        """One conversation: what is new after its cursor, all of it, or a backfill from `since`.

        Raises:
            ConfigurationError: no conversation can be read.
        """
        conversation, previous, whole = due
        meter = meter or Meter()
        cursor = None if whole or since or (previous and previous.missing) else previous

        async def fetch(number: int) -> Page:
            page = await self.client.messages(conversation.who, number, meter, self.read_rows)
            if cursor is None and since is None:
                meter.expected = pages_of(page.total or 0)
            return page

        task = Task(
            fetch=fetch,
            map_page=partial(self._map_page, conversation),
            started_at=started_at,
            now=self.now,
            since=since or lookback_start(cursor, self.lookback),
            cursor=cursor,
        )
        reading = await read_conversation(task)
        meter.closed = True
        return ConversationRead(conversation, reading, previous, meter, bool(since))

    def unlisted(self, contact_id: str, previous: Cursor) -> ConversationRead:
        """A conversation whose contact the API lists no longer; costs no request."""
        reading = Reading(synced_at=self.now())
        note_missing(reading, previous, "the API no longer lists this contact")
        # Without a cursor it is read whole as soon as it is listed again.
        reading.cursor = None
        return ConversationRead(Conversation(contact_id, None, {}), reading, previous, Meter())

    def _map_page(
        self, conversation: Conversation, raws: Sequence[Any], synced_at: datetime
    ) -> MappedPage:
        origin = Origin(
            self.tenant_id, conversation.contact_id, conversation.whatsapp_id, synced_at
        )
        return map_page(raws, origin)


def _enrol(contacts: list[Mapped], roster: dict[str, Conversation]) -> list[Mapped]:
    """The contacts that this run had not seen yet; the roster gets their conversations."""
    new = [mapped for mapped in contacts if mapped.row["id"] not in roster]
    for mapped in new:
        if mapped.addressable:
            roster[mapped.row["id"]] = _conversation(mapped.row)
    return new


def _conversation(row: Row) -> Conversation:
    who = conversation_params(row["id"], contact_number(row))
    unread = bool(row["unread_count"] or row["has_unread_messages"])
    return Conversation(row["id"], row["whatsapp_id"], who, row["last_message_at"], unread)


def conversation_params(contact_id: str, number: str) -> Params:
    """How the API is asked for a conversation: by id where it gives one, else by number."""
    # Not by number where there is a choice: URLs end in proxies' logs.
    return {"whatsappNumber": number} if contact_id == number else {"contactId": contact_id}


def conversation_row(read: ConversationRead, tenant_id: str) -> Row:
    """The `conversations` row of what was read; what this run did not learn is kept."""
    reading, previous = read.reading, read.previous
    times = [reading.last_message_at, previous.newest if previous else None]
    known = previous.known if previous else None
    return {
        "tenant_id": tenant_id,
        "contact_id": read.conversation.contact_id,
        "whatsapp_id": read.conversation.whatsapp_id,
        "status": reading.status,
        "message_count": known if reading.message_count is None else reading.message_count,
        "last_message_at": max((at for at in times if at is not None), default=None),
        "synced_at": reading.synced_at,
        "rescanned_at": reading.rescanned_at or (previous.rescanned_at if previous else None),
        "requests": read.meter.requests,
        "error": reading.error,
    }


def rejections(event: Event, tenant_id: str, seen_at: datetime) -> list[Row]:
    """The `rejected_rows` rows of an event."""
    if isinstance(event, Roster):
        return []
    if isinstance(event, Listed):
        table, mapped = "contacts", event.contacts
    else:
        table, mapped = "messages", [m for read in event.reads for m in read.reading.mapped]
    return [row for m in mapped for row in rejected_rows(m, tenant_id, table, seen_at)]
