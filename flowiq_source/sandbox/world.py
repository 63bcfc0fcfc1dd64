"""An invented business: its contacts and their messages, which live as the clock goes on.

Everything follows from the seed, so two worlds with the same seed and clock are the same. The
people, numbers and texts are made up.
"""

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

START = datetime(2026, 3, 2, 8, 0, tzinfo=timezone.utc)
"""When the sandbox's clock starts, a Monday morning."""

HISTORY = timedelta(days=120)
"""How far back the history goes at the start."""

_DAY = timedelta(days=1)
_FIRST_NAMES = ("Amahle", "Bongani", "Chen", "Dineo", "Elif", "Fatima", "Grace", "Hassan")
_LAST_NAMES = ("Botha", "Dlamini", "Khan", "Mokoena", "Naidoo", "Okafor", "Petersen")
_QUESTIONS = [
    "Hi, where is my order #{order}?",
    "Do you deliver on Saturdays?",
    "Can I pay by card?",
    "שלום, האם יש לכם את זה במידה L?",
    "Thank you so much 🙏🏽",
    "Is the blue one back in stock? 👩‍👩‍👧",
]
_ANSWERS = [
    "Order #{order} left our warehouse this morning.",
    "We deliver Monday to Saturday, 08:00 to 17:00.",
    "Yes, by card, EFT or on delivery.",
    '{{"header": "Your order", "body": "#{order} is on its way", "buttons": ["Track", "Help"]}}',
]
_TRANSCRIPTION = "Hi, I wanted to ask whether you could deliver a bit later today"
_OUR_SENDERS = ["bot-whatsapp"] * 4 + ["human-whatsapp"] * 4 + ["system"]
_AGENTS = [str(uuid.UUID(int=Random(name).getrandbits(128), version=4)) for name in "ab"]


# Two that look alike are still two: deletion must hit the one that is meant.
@dataclass(eq=False)
class Message:
    """One message; `changes` are fields that get another value at a later time."""

    id: str
    at: datetime
    sender: str
    content: str
    status: str = "sent"
    media_type: str | None = None
    media_url: str | None = None
    assignee: str | None = None
    voice_transcription: str | None = None
    reactions: list[dict[str, Any]] = field(default_factory=list)
    changes: list[tuple[datetime, str, Any]] = field(default_factory=list)

    def live_until(self, now: datetime) -> None:
        """Apply what has happened by now."""
        self.changes.sort(key=lambda change: change[0])
        while self.changes and self.changes[0][0] <= now:
            _, name, value = self.changes.pop(0)
            setattr(self, name, value)


@dataclass(eq=False)
class Contact:
    """One contact and every message that will ever be exchanged up to the world's horizon."""

    id: str
    number: str
    full_name: str | None
    created_at: datetime
    email: str | None = None
    tags: list[str] | None = None
    bot_status: str | None = "active"
    archived: bool | None = False
    busy: bool = False
    """Whether the contact writes on most days."""
    added: bool = False
    """Whether it was added by hand; then it writes nothing by itself."""
    messages: list[Message] = field(default_factory=list)

    def history(self, now: datetime) -> list[Message]:
        """The messages up to now, newest first; of equal times the later one first."""
        past = [message for message in reversed(self.messages) if message.at <= now]
        return sorted(past, key=lambda message: message.at, reverse=True)

    def unread(self, now: datetime) -> int:
        """Messages from the customer since the business last wrote."""
        count = 0
        for message in self.history(now):
            if message.sender != "user-whatsapp":
                break
            count += 1
        return count


class World:
    """Contacts, a clock and the Shopify orders that messages can be searched for."""

    def __init__(self, contacts: int = 12, seed: int = 1, now: datetime = START) -> None:
        self.seed = seed
        self.now = now
        self.orders = {"1234567890": "4275"}
        self._added = itertools.count()
        self._planned: list[Contact] = [self._contact(n) for n in range(contacts)]
        self._horizon = now - HISTORY
        self.advance(timedelta(0))

    @property
    def contacts(self) -> list[Contact]:
        """The contacts there are by now."""
        return [contact for contact in self._planned if contact.created_at <= self.now]

    def find(self, digits: str) -> Contact | None:
        """The contact with this number."""
        return next((c for c in self.contacts if c.number == digits), None)

    def by_id(self, contact_id: str) -> Contact | None:
        """The contact with this id."""
        return next((c for c in self.contacts if c.id == contact_id), None)

    def advance(self, by: timedelta) -> None:
        """Move the clock: messages arrive, are read, transcribed and reacted to."""
        self.now += by
        while self._horizon <= self.now:
            for contact in self._planned:
                contact.messages.extend(self._day(contact, self._horizon))
            self._horizon += _DAY
        for contact in self._planned:
            for message in contact.messages:
                message.live_until(self.now)

    def add_contact(self, number: str, **fields: Any) -> Contact:
        """A contact that exists from now on."""
        contact = Contact(
            id=str(uuid.UUID(int=Random(f"{self.seed}/{number}").getrandbits(128), version=4)),
            number=number,
            **{"full_name": "Added Contact", "created_at": self.now, "added": True, **fields},
        )
        self._planned.append(contact)
        return contact

    def delete_contact(self, contact: Contact) -> None:
        """Remove a contact and its conversation."""
        self._planned.remove(contact)

    def add_message(self, contact: Contact, at: datetime | None = None, **fields: Any) -> Message:
        """A message at a time, now if none is given, however late it arrives."""
        message = Message(
            id=_wamid(f"{self.seed}/{contact.number}/added/{next(self._added)}"),
            at=at or self.now,
            **{"sender": "user-whatsapp", "content": "Hello", "status": "read", **fields},
        )
        contact.messages.append(message)
        return message

    def delete_message(self, contact: Contact, message: Message) -> None:
        """Remove a message, as after a customer's request for erasure."""
        contact.messages.remove(message)

    def _contact(self, n: int) -> Contact:
        random = Random(f"{self.seed}/contact/{n}")
        # One in six joins while the sandbox runs, so that there is something to discover.
        joins = timedelta(days=n) if n % 6 == 5 else -HISTORY * random.random()
        name = f"{random.choice(_FIRST_NAMES)} {random.choice(_LAST_NAMES)}"
        return Contact(
            id=str(uuid.UUID(int=random.getrandbits(128), version=4)),
            number=f"2782{1000000 + n * 7919:07d}",
            full_name=None if n % 7 == 6 else name,
            created_at=(self.now + joins).replace(microsecond=0),
            email=None if n % 3 else f"{name.partition(' ')[0].lower()}{n}@example.com",
            tags=[None, [], ["customer"], ["customer", "premium"]][n % 4],
            bot_status=["active", "paused", None][n % 3],
            archived=n % 5 == 4,
            busy=n % 4 == 0,
        )

    def _day(self, contact: Contact, day: datetime) -> Iterator[Message]:
        """A day's messages; contacts that were added by hand write none by themselves."""
        random = Random(f"{self.seed}/day/{contact.number}/{day.date()}")
        if random.random() > (0.9 if contact.busy else 0.25) or contact.added:
            return
        at = day + timedelta(seconds=random.randrange(32_400))
        for turn in range(random.randrange(1, 4)):
            at += timedelta(seconds=random.randrange(20, 600))
            if at >= contact.created_at:
                yield self._message(random, contact, at, turn)

    def _message(self, random: Random, contact: Contact, at: datetime, turn: int) -> Message:
        ours = turn % 2 == 1
        order = random.randrange(4200, 4300)
        sender = random.choice(_OUR_SENDERS) if ours else "user-whatsapp"
        message = Message(
            id=_wamid(f"{self.seed}/{contact.number}/{at.isoformat()}/{turn}"),
            at=at,
            sender=sender,
            content=random.choice(_ANSWERS if ours else _QUESTIONS).format(order=order),
            status="sent" if ours else "read",
        )
        if message.content.startswith("{"):
            message.media_type = "interactive"
        if sender == "human-whatsapp":
            assigned_at = message.at + timedelta(minutes=random.randrange(1, 600))
            message.changes.append((assigned_at, "assignee", random.choice(_AGENTS)))
        if ours:
            _deliver(random, message)
            _maybe_react(random, message, contact.number)
        elif random.random() < 0.15:
            _attach(random, message)
        return message


def _deliver(random: Random, message: Message) -> None:
    if random.random() < 0.02:
        message.changes.append((message.at + timedelta(seconds=5), "status", "failed"))
        return
    message.changes.append((message.at + timedelta(seconds=3), "status", "delivered"))
    read_at = message.at + timedelta(minutes=random.randrange(1, 2_000))
    message.changes.append((read_at, "status", "read"))


def _maybe_react(random: Random, message: Message, number: str) -> None:
    if random.random() > 0.2:
        return
    at = message.at + timedelta(minutes=random.randrange(2, 3_000))
    reaction = {"emoji": random.choice(["👍", "❤️", "🙏🏽", "👩‍👩‍👧"]), "sender": number}
    message.changes.append((at, "reactions", [reaction]))
    if random.random() < 0.25:
        message.changes.append((at + timedelta(hours=6), "reactions", []))


def _attach(random: Random, message: Message) -> None:
    message.media_type = random.choice(["image", "video", "audio", "document"])
    message.media_url = f"https://media.example.com/{random.getrandbits(64):016x}"
    if message.media_type == "audio":
        message.content = ""
        later = message.at + timedelta(minutes=30)
        message.changes.append((later, "voice_transcription", _TRANSCRIPTION))


def _wamid(text: str) -> str:
    return f"wamid.HBgL{Random(text).getrandbits(160):040X}"
