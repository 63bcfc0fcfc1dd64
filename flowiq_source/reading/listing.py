"""The contacts of a tenant: all of them, or those with chosen numbers."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from flowiq_source.api.answers import Page, RawRow
from flowiq_source.api.client import FlowiqClient, Meter, Params
from flowiq_source.errors import (
    BadRequest,
    ConfigurationError,
    FlowiqError,
    Inconsistent,
    NotFound,
)
from flowiq_source.reading.conversation import Conversation
from flowiq_source.reading.cursor import short
from flowiq_source.reading.faults import attempt, reason
from flowiq_source.reading.passes import PASS_SIZES, Pass, Passes, is_cut
from flowiq_source.reading.pool import in_order
from flowiq_source.rows.convert import Mapped
from flowiq_source.rows.identities import address, identity
from flowiq_source.settings import pages_of

logger = logging.getLogger("flowiq_source")

LISTINGS = 4
"""How often a run reads a list that does not add up."""

MOST_EMPTY = 3
"""So many empty pages on end are the end of a list, whatever it says."""


@dataclass(frozen=True)
class Listed:
    """Contacts that a page, or a search by phone, showed for the first time in this run."""

    contacts: list[Mapped]
    meter: Meter
    pages: int = 1
    """Requests that the whole list costs, as far as is known."""


@dataclass
class _Ids:
    """The contacts of a page, as a pass over the list looks at them."""

    keys: list[str]
    times: list[int | None]
    prints: list[int]


@dataclass
class Roster:
    """Every conversation that may be read, once the list is complete, and what is missing."""

    api: FlowiqClient
    map_contact: Callable[[RawRow], Mapped]
    check: Callable[[], object]
    """Raises what ends the run while it waits."""
    by_id: dict[str, Conversation] = field(default_factory=dict)
    surplus: int = 0
    """By how many the API's count exceeds those that it lists, the last time that it added up."""
    unlisted: int = 0
    """Contacts that the API counts and never listed, or could not be asked for."""
    error: str | None = None
    """Why the list is not complete."""
    wasted: int = 0
    """Requests of passes over the list that did not add up."""
    is_short: bool = False
    """Whether the API counts more contacts than it lists, twice the same."""
    forgotten: int = 0
    """Contacts that were erased and are passed over."""
    of_another: set[str] = field(default_factory=set)
    """Numbers of contacts that have the id of another one, short; see `short`."""
    unknown_numbers: list[int] = field(default_factory=list)
    """Positions, from 1, in `phone_numbers` that the API knows no contact for."""

    @property
    def conversations(self) -> list[Conversation]:
        """Those that the API can be asked for."""
        return [conversation for conversation in self.by_id.values() if conversation.ways]

    def note(self, error: str, unlisted: int = 1) -> None:
        """Something of the list is missing."""
        self.unlisted += unlisted
        self.error = self.error or error

    def list_all(self) -> Iterator[Listed]:
        """All contacts, page by page.

        Raises:
            FlowiqError: the list cannot be read at all; nothing else can be either.
        """
        passes, one = Passes(self.surplus), Pass()
        for size in PASS_SIZES[:LISTINGS]:
            self.wasted += len(one.sheets)
            one = Pass(size=size)
            for page, meter in self._pages(size):
                if isinstance(page, Exception):
                    if size == PASS_SIZES[0] and not one.sheets:
                        raise page
                    self.note(reason(page), unlisted=size)
                    yield Listed([], meter)
                    continue
                mapped = self._map(page.rows)
                yield Listed(self._enrol(mapped), meter, pages_of(page.total or 0))
                ids = [m.row["id"] for m in mapped]
                try:
                    one.add(page, _Ids(ids, [None] * len(ids), [0] * len(ids)))
                except Inconsistent as error:
                    self.note(str(error))
                    break
                if one.repeats:
                    yield from self._check_end(one, page)
                    break
            if self.error:
                return
            if passes.believe(one):
                self.surplus = (one.first_total or passes.rows) - passes.rows
                # The API may count those twice that it lists twice.
                self.is_short = one.first_total is not None and one.first_total > one.listed
                return
        # Whoever came and went meanwhile: as many are known as there are.
        if (unlisted := (one.total or 0) - len(self.by_id)) > 0:
            listed = f"listed {len(one.seen)}, {LISTINGS} times"
            self.note(f"the API counts {one.total} contacts and {listed}", unlisted)

    def _check_end(self, one: Pass, repeated: Page) -> Iterator[Listed]:
        """See that nobody is behind the last contact, though a page is repeated."""
        if one.is_over or not repeated.more:
            return
        if place := one.last_rows():
            number, size = place
            page, meter = self._page(number, size)
            yield Listed([], meter)
            if isinstance(page, Page) and one.ends_with(page, size):
                return
        self.note(f"the API repeats a page of contacts after {one.listed}, and there are more")

    def list_chosen(self, numbers: Sequence[str], known_contacts: int) -> Iterator[Listed]:
        """The contacts with these numbers: asked for one by one, or from the list if shorter."""
        wanted = {_value(number): position for position, number in enumerate(numbers, 1)}
        found: set[str] = set()
        listed, total = 0, None
        if len(wanted) > 1 and pages_of(known_contacts) <= len(wanted):
            for page, meter in self._pages(PASS_SIZES[0]):
                if isinstance(page, Exception):
                    # Each can still be asked for.
                    logger.warning("the list of contacts cannot be read: %s", reason(page))
                    yield Listed([], meter)
                    break
                mapped = self._map(page.rows)
                chosen = [m for m in mapped if _values(m) & set(wanted)]
                found |= {value for m in chosen for value in _values(m)}
                yield Listed(self._enrol(chosen), meter)
                listed, total = listed + len(mapped), page.total
                if found >= set(wanted) or total is None or pages_of(total) > len(wanted):
                    break
        left = {value: at for value, at in wanted.items() if value not in found}
        if total is not None and listed >= total:
            self.unknown_numbers += left.values()
        else:
            yield from self._find_each(left)

    def _find_each(self, left: dict[str, int]) -> Iterator[Listed]:
        asks = (partial(self._search, value) for value in left)
        for position, (raw, meter) in zip(left.values(), in_order(asks, self.check), strict=True):
            if isinstance(raw, NotFound | BadRequest):
                self.unknown_numbers.append(position)
            elif isinstance(raw, Exception):
                self.note(reason(raw))
            raws = [] if isinstance(raw, Exception) else [raw]
            yield Listed(self._enrol(self._map(raws)), meter, len(left))

    def _pages(self, size: int) -> Iterator[tuple[Page | Exception, Meter]]:
        """The pages of the list; where there is none, why."""
        number, more, last, empty = 1, True, 1, 0
        sizes: list[int] = []
        while more:
            # Past what the first page promised there is one more page at a time.
            promised, last = last, max(number, last)
            asks = (partial(self._page, n, size) for n in range(number, last + 1))
            for page, meter in in_order(asks, self.check):
                if number > promised and isinstance(page, NotFound | BadRequest):
                    page = Page([], None, more=False)  # noqa: PLW2901 - so it is the end
                yield page, meter
                number += 1
                if isinstance(page, Exception):
                    more = number <= last
                else:
                    empty = 0 if page.rows else empty + 1
                    sizes.append(len(page.rows))
                    more = (page.more or is_cut(sizes, page.total)) and empty < MOST_EMPTY
                    total = page.total or 0
                if not more:
                    return
            last = -(-(total - self.surplus) // size)

    def _page(self, number: int, size: int) -> tuple[Page | Exception, Meter]:
        meter = Meter()
        try:
            return attempt(partial(self.api.contacts, number, meter, size=size)), meter
        except ConfigurationError as error:
            # A token that has shown others is not the wrong one.
            if not self.by_id:
                raise
            return FlowiqError(str(error)), meter

    def _search(self, value: str) -> tuple[RawRow | Exception, Meter]:
        meter = Meter()
        return attempt(lambda: self.api.contact_by_phone(value, meter)), meter

    def _map(self, raws: Iterable[RawRow]) -> list[Mapped]:
        """The rows of the contacts; one that cannot be mapped is noted."""
        mapped = []
        for raw in raws:
            one = attempt(partial(self.map_contact, raw))
            if isinstance(one, Exception):
                self.note(reason(one))
            else:
                mapped.append(one)
        return mapped

    def _enrol(self, contacts: Sequence[Mapped]) -> list[Mapped]:
        """The contacts that this run had not seen yet; their conversations are on the roster."""
        new = {m.row["id"]: m for m in contacts if m.row["id"] not in self.by_id}
        for contact_id, mapped in new.items():
            self.by_id[contact_id] = conversation_of(mapped)
        for mapped in contacts:
            number, known = conversation_of(mapped).number, self.by_id[mapped.row["id"]].number
            if number and known and number != known:
                self.of_another.add(number)
        self.forgotten += sum(mapped.forgotten for mapped in new.values())
        # The others count as listed, and nothing else of them is wanted.
        return [mapped for mapped in new.values() if not mapped.forgotten]


def _value(text: str) -> str:
    """A number or id as it is compared."""
    who = identity(text)
    return who.value if who else text


def _values(mapped: Mapped) -> set[str]:
    return {who.value for who in mapped.identities}


def conversation_of(mapped: Mapped) -> Conversation:
    """A contact's conversation, and how the API is asked for it."""
    row = mapped.row
    # By the API's id: the row's may be a pseudonym.
    number = address(mapped.identities)
    ways = conversation_ways(mapped.own_id, number) if mapped.addressable else []
    unread = bool(row["unread_count"] or row["has_unread_messages"])
    # With an id of the API's, a contact may have been known by its number before, or by another id.
    has_both = bool(mapped.number_id) and mapped.number_id != row["id"]
    short_number = short(mapped.number_id) if has_both else ""
    last_at = row["last_message_at"]
    return Conversation(row["id"], row["whatsapp_id"], ways, last_at, unread, short_number)


def conversation_ways(contact_id: str, number: str) -> list[Params]:
    """How the API is asked for a conversation: by id where it gives one, and by number."""
    # By id first: URLs end in proxies' logs.
    ways = [{"contactId": contact_id}] if contact_id and contact_id != number else []
    return [*ways, {"whatsappNumber": number}] if number else ways
