"""An invented business: its contacts and their messages, which live as the clock goes on.

Everything follows from the seed, so two worlds with the same seed, options and clock are the same.
The people, numbers and texts are made up.
"""

import itertools
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from random import Random
from typing import Any

from flowiq_source.sandbox.full_rows import contact_fields, message_fields
from flowiq_source.sandbox.john_doe import john_doe
from flowiq_source.sandbox.lively import lively_day, settle
from flowiq_source.sandbox.model import DAY, Contact, Message, uuid_of, wamid
from flowiq_source.sandbox.plain import plain_day

__all__ = ["HISTORY", "START", "Contact", "Message", "World", "planned_for"]

START = datetime(2026, 3, 2, 8, 0, tzinfo=timezone.utc)
"""When the sandbox's clock starts, a Monday morning."""

HISTORY = timedelta(days=120)
"""How far back the history goes at the start."""

_LATEST_TO_JOIN = 10**6
"""In days: behind it there is no calendar any more."""

_FIRST_NAMES = ("Amahle", "Bongani", "Chen", "Dineo", "Elif", "Fatima", "Grace", "Hassan")
_LAST_NAMES = ("Botha", "Dlamini", "Khan", "Mokoena", "Naidoo", "Okafor", "Petersen")


def planned_for(present: int) -> int:
    """How many contacts to plan so that this many are there at the start."""
    return present + present // 5


class World:
    """Contacts, a clock and the Shopify orders that messages can be searched for.

    Contacts are planned when they are first asked for, and the messages of each
    when they are first looked at: a world takes no time to make, however large.

    Args:
        contacts: How many are planned; one in six joins only as the clock goes on.
        seed: Another seed is another business.
        now: Where the clock starts.
        lively: Bots, hand-overs, nights and weekends, instead of a few messages a day.
        documented: John Doe of the vendor's examples is there as well.
        web_chat: One contact in four writes in the web chat.
        hidden_numbers: One contact in five has a business-scoped id and no number.
        optional_fields: Contacts and messages have all the fields that any document mentions.
        uuid_ids: A message's id is a UUID, WhatsApp's own beside it.
    """

    def __init__(  # noqa: PLR0913 - each option is one that somebody wants by itself
        self,
        contacts: int = 12,
        seed: int = 1,
        now: datetime = START,
        *,
        lively: bool = False,
        documented: bool = False,
        web_chat: bool = False,
        hidden_numbers: bool = False,
        optional_fields: bool = False,
        uuid_ids: bool = False,
    ) -> None:
        self.seed = seed
        self.now = now
        self.orders = {"1234567890": "4275"}
        self._count, self._start = contacts, now
        self._lively, self._documented = lively, documented
        self._web_chat, self._hidden_numbers = web_chat, hidden_numbers
        self._optional_fields, self._uuid_ids = optional_fields, uuid_ids
        self._added = itertools.count()
        self._living: dict[Contact, datetime] = {}
        """The contacts whose messages are planned, and the day up to which they are."""

    @cached_property
    def _planned(self) -> list[Contact]:
        planned = [self._enter(self._contact(n)) for n in range(self._count)]
        if self._documented:
            john, messages = john_doe()
            planned.insert(0, self._enter(john))
            self._admit(john, messages)
        return planned

    @property
    def contacts(self) -> list[Contact]:
        """The contacts there are by now."""
        return [contact for contact in self._planned if contact.created_at <= self.now]

    def find(self, number: str) -> Contact | None:
        """The contact with this number or identity."""
        there = (c for c in self._planned if c.number == number and c.created_at <= self.now)
        return next(there, None)

    def by_id(self, contact_id: str) -> Contact | None:
        """The contact with this id."""
        there = (c for c in self._planned if c.id == contact_id and c.created_at <= self.now)
        return next(there, None)

    def seen(self, contact: Contact) -> Contact:
        """The contact for one look at it.

        Where nobody has touched its messages yet, they are planned for this look
        alone: what a large world is asked for does not stay in memory.
        """
        if contact in self._living or contact.added:
            return contact
        copy = replace(contact, changes=[], begin=None)
        self._live(copy, self._start - HISTORY)
        return copy

    def advance(self, by: timedelta) -> None:
        """Move the clock: messages arrive, are read, transcribed and reacted to."""
        self.now += by
        for contact, day in self._living.items():
            self._living[contact] = self._live(contact, day)

    def add_contact(self, number: str, **fields: Any) -> Contact:
        """A contact that exists from now on."""
        named = {"full_name": "Added Contact", "created_at": self.now, "added": True, **fields}
        contact = Contact(**{"id": uuid_of(f"{self.seed}/{number}"), "number": number, **named})
        self._planned.append(self._enter(contact))
        return contact

    def delete_contact(self, contact: Contact) -> None:
        """Remove a contact and its conversation."""
        self._planned.remove(contact)

    def add_message(self, contact: Contact, at: datetime | None = None, **fields: Any) -> Message:
        """A message at a time, now if none is given, however late it arrives."""
        said = {"sender": f"user-{contact.channel}", "content": "Hello", "status": "read", **fields}
        name = f"{self.seed}/{contact.number}/added/{next(self._added)}"
        message = Message(**{"id": wamid(name), "at": at or self.now, **said})
        self._admit(contact, [message])
        return message

    def delete_message(self, contact: Contact, message: Message) -> None:
        """Remove a message, as after a customer's request for erasure."""
        contact.messages.remove(message)

    def _enter(self, contact: Contact) -> Contact:
        """The contact as the options want it, with a life that is still to begin."""
        if self._optional_fields:
            contact.extra = contact_fields(contact, self.seed) | contact.extra
        contact.begin = self._begin
        return contact

    def _begin(self, contact: Contact) -> None:
        self._living[contact] = self._live(contact, self._start - HISTORY)

    def _live(self, contact: Contact, day: datetime) -> datetime:
        """Let everything come that happened from that day up to now; the day to go on with."""
        day_of = lively_day if self._lively else plain_day
        while day <= self.now:
            if not contact.added:
                self._admit(contact, day_of(self.seed, contact, day))
            day += DAY
        contact.live_until(self.now)
        for message in contact.messages:
            message.live_until(self.now)
        return day

    def _admit(self, contact: Contact, messages: Iterable[Message]) -> None:
        """Add messages to the contact's as the options want them."""
        for message in messages:
            if contact.channel != "whatsapp":
                message.sender = message.sender.replace("-whatsapp", f"-{contact.channel}")
            if self._optional_fields:
                message.extra = message_fields(contact, message) | message.extra
            if self._uuid_ids:
                ids = {"id": uuid_of(message.id), "whatsapp_message_id": message.id}
                message.id, message.extra = ids["id"], ids | message.extra
            contact.messages.append(message)

    def _contact(self, n: int) -> Contact:
        random = Random(f"{self.seed}/contact/{n}")
        # One in six joins while the sandbox runs, so that there is something to discover.
        joins_in = timedelta(days=min(n, _LATEST_TO_JOIN))
        joins = joins_in if n % 6 == 5 else -HISTORY * random.random()
        name = f"{random.choice(_FIRST_NAMES)} {random.choice(_LAST_NAMES)}"
        contact = Contact(
            id=str(uuid.UUID(int=random.getrandbits(128), version=4)),
            number=f"2782{1000000 + n * 7919:07d}",
            full_name=None if n % 7 == 6 else name,
            created_at=(self._start + joins).replace(microsecond=0),
            email=None if n % 3 else f"{name.partition(' ')[0].lower()}{n}@example.com",
            tags=[None, [], ["customer"], ["customer", "premium"]][n % 4],
            bot_status=["active", "paused", None][n % 3],
            archived=n % 5 == 4,
            busy=n % 4 == 0,
        )
        if self._lively:
            settle(contact, n)
        if self._hidden_numbers and n % 5 == 2:
            contact.number = f"ZA.{Random(contact.id).randrange(10**15, 10**16)}"
        if self._web_chat and n % 4 == 1:
            contact.channel = "web"
        return contact
