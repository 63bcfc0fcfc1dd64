"""The contacts of a tenant: all of them, or those with chosen numbers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from flowiq_source.api.answers import Page, RawRow
from flowiq_source.api.client import Meter, Params
from flowiq_source.errors import (
    BadRequest,
    ConfigurationError,
    FlowiqError,
    Inconsistent,
    NotFound,
)
from flowiq_source.reading.conversation import Conversation
from flowiq_source.reading.pool import in_order
from flowiq_source.reading.walk import MOST_PAGES, PASS_SIZES, Pass, Passes, reason
from flowiq_source.rows.convert import Mapped
from flowiq_source.rows.identities import address, identity
from flowiq_source.settings import pages_of

logger = logging.getLogger("flowiq_source")

LISTINGS = 4
"""How often a run reads a list that does not add up."""

MOST_EMPTY = 3
"""So many empty pages on end are the end of a list, whatever it says."""


class Api(Protocol):
    """The API's three operations."""

    def contacts(self, number: int, meter: Meter, *, size: int) -> Page:
        """One page of all contacts."""

    def messages(
        self, who: Params, number: int, meter: Meter, *, size: int, ascending: bool
    ) -> Page:
        """One page of a conversation."""

    def contact_by_phone(self, value: str, meter: Meter) -> RawRow:
        """The contact with this number."""


MapContact = Callable[[RawRow], Mapped]
Check = Callable[[], object]


@dataclass(frozen=True)
class Listed:
    """Contacts that a page, or a search by phone, showed for the first time in this run."""

    contacts: list[Mapped]
    meter: Meter
    pages: int = 1
    """Requests that the whole list costs, as far as is known."""


@dataclass
class Roster:
    """Every conversation that may be read, once the list is complete."""

    by_id: dict[str, Conversation] = field(default_factory=dict)
    unlisted: int = 0
    """Contacts that the API counts and never listed, or could not be asked for."""
    error: str | None = None
    """Why the list is not complete."""
    wasted: int = 0
    """Requests of passes over the list that did not add up."""
    is_short: bool = False
    """Whether the API counts more contacts than it lists, twice the same."""
    unknown_numbers: list[int] = field(default_factory=list)
    """Positions, from 1, in `phone_numbers` that the API knows no contact for."""

    def note(self, error: str, unlisted: int = 1) -> None:
        """Something of the list is missing."""
        self.unlisted += unlisted
        self.error = self.error or error

    def enrol(self, contacts: Sequence[Mapped]) -> list[Mapped]:
        """The contacts that this run had not seen yet; their conversations are on the roster."""
        new = {m.row["id"]: m for m in contacts if m.row["id"] not in self.by_id}
        for contact_id, mapped in new.items():
            self.by_id[contact_id] = _conversation(mapped)
        return list(new.values())

    def map(self, raws: Sequence[RawRow], map_contact: MapContact) -> list[Mapped]:
        """The rows of the contacts; one that cannot be mapped is noted."""
        mapped = []
        for raw in raws:
            try:
                mapped.append(map_contact(raw))
            except Exception as error:  # noqa: BLE001 - whatever one holds, the others are read
                self.note(reason(error))
        return mapped

    @property
    def conversations(self) -> list[Conversation]:
        """Those that the API can be asked for."""
        return [conversation for conversation in self.by_id.values() if conversation.ways]


def list_all(api: Api, map_contact: MapContact, roster: Roster, check: Check) -> Iterator[Listed]:
    """All contacts, page by page; the roster afterwards says what is missing.

    Raises:
        FlowiqError: the list cannot be read at all; nothing else can be either.
    """
    passes = Passes()
    pages = 0
    for size in PASS_SIZES[:LISTINGS]:
        roster.wasted += pages
        one, pages = Pass(), 0
        try:
            for page, meter in _pages(api, size, check):
                pages += 1
                if isinstance(page, str):
                    roster.note(page, unlisted=size)
                    yield Listed([], meter)
                    continue
                mapped = roster.map(page.rows, map_contact)
                yield Listed(roster.enrol(mapped), meter, pages_of(page.total or 0))
                one.add(page, [m.row["id"] for m in mapped])
        except Inconsistent as error:
            roster.note(str(error))
        if roster.error:
            return
        if passes.believe(one):
            # The API may count those twice that it lists twice.
            roster.is_short = one.first_total is not None and one.first_total > one.listed
            return
    # Whoever came and went meanwhile: as many are known as there are.
    if len(roster.by_id) < (one.total or 0):
        roster.note(
            f"the API counts {one.total} contacts and listed {len(one.seen)}, {LISTINGS} times",
            (one.total or 0) - len(roster.by_id),
        )


def _pages(api: Api, size: int, check: Check) -> Iterator[tuple[Page | str, Meter]]:
    """The pages; where there is none, why.

    Raises:
        FlowiqError: there is no first page.
    """

    def ask(number: int) -> tuple[Page | str, Meter]:
        meter = Meter()
        try:
            return api.contacts(number, meter, size=size), meter
        except (ConfigurationError, CancelledError):
            raise
        except Exception as error:
            if number == 1:
                raise
            return reason(error), meter

    number, more, last, empty = 1, True, 1, 0
    while more:
        # Past what the first page promised there is one more page at a time.
        last = max(number, last)
        for page, meter in in_order((partial(ask, n) for n in range(number, last + 1)), check):
            yield page, meter
            number += 1
            if isinstance(page, str):
                more = number <= last
            else:
                empty = 0 if page.rows else empty + 1
                more = page.more and empty < MOST_EMPTY
                total = page.total or 0
            if not more:
                break
        last = min(-(-total // size), MOST_PAGES * 10)


def list_chosen(  # noqa: PLR0913, PLR0917 - what the two listings share, and the numbers
    api: Api,
    map_contact: MapContact,
    roster: Roster,
    check: Check,
    numbers: Sequence[str],
    known_contacts: int,
) -> Iterator[Listed]:
    """The contacts with these numbers: by asking for each, or from the list if that is shorter."""
    wanted = {_value(number): position for position, number in enumerate(numbers, 1)}
    found: set[str] = set()
    listed, total = 0, None
    if len(wanted) > 1 and known_contacts <= len(wanted) * PASS_SIZES[0]:
        for page, spent in _pages_or_none(api, check):
            mapped = [] if isinstance(page, str) else roster.map(page.rows, map_contact)
            chosen = [m for m in mapped if _identities(m) & set(wanted)]
            found |= {value for m in chosen for value in _identities(m)}
            yield Listed(roster.enrol(chosen), spent)
            if isinstance(page, str) or found >= set(wanted):
                break
            listed, total = listed + len(mapped), page.total
            if total is None or pages_of(total) > len(wanted):
                break
    left = {value: at for value, at in wanted.items() if value not in found}
    if total is not None and listed >= total:
        roster.unknown_numbers += left.values()
    else:
        yield from _find_each(api, map_contact, roster, check, left)


def _pages_or_none(api: Api, check: Check) -> Iterator[tuple[Page | str, Meter]]:
    try:
        yield from _pages(api, PASS_SIZES[0], check)
    except ConfigurationError:
        raise
    except FlowiqError as error:
        # Each can still be asked for.
        logger.warning("the list of contacts cannot be read: %s", error)


def _find_each(
    api: Api, map_contact: MapContact, roster: Roster, check: Check, left: dict[str, int]
) -> Iterator[Listed]:
    def find(value: str) -> tuple[RawRow | None, str | None, Meter]:
        meter = Meter()
        try:
            return api.contact_by_phone(value, meter), None, meter
        except (NotFound, BadRequest):
            return None, None, meter
        except (ConfigurationError, CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the others can still be asked for
            return None, reason(error), meter

    answers = in_order([partial(find, value) for value in left], check)
    for position, (raw, error, meter) in zip(left.values(), answers, strict=True):
        if error:
            roster.note(error)
        elif raw is None:
            roster.unknown_numbers.append(position)
        contacts = [] if raw is None else roster.enrol(roster.map([raw], map_contact))
        yield Listed(contacts, meter, len(left))


def _value(text: str) -> str:
    """A number or id as it is compared."""
    who = identity(text)
    return who.value if who else text


def _identities(mapped: Mapped) -> set[str]:
    return {who.value for who in mapped.identities}


def _conversation(mapped: Mapped) -> Conversation:
    row = mapped.row
    ways = conversation_ways(row["id"], address(mapped.identities)) if mapped.addressable else []
    unread = bool(row["unread_count"] or row["has_unread_messages"])
    return Conversation(row["id"], row["whatsapp_id"], ways, row["last_message_at"], unread)


def conversation_ways(contact_id: str, number: str) -> list[Params]:
    """How the API is asked for a conversation: by id where it gives one, and by number."""
    # By id first: URLs end in proxies' logs.
    ways: list[dict[str, Any]] = []
    if contact_id and contact_id != number:
        ways.append({"contactId": contact_id})
    if number:
        ways.append({"whatsappNumber": number})
    return ways
