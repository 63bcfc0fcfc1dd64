"""A contact and a message as they are at one moment; both change as the clock goes on."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

Change = tuple[datetime, str, Any]
"""When which field gets which value."""

DAY = timedelta(days=1)


class _Changing:
    """Something whose fields get other values at a later time."""

    changes: list[Change]

    def live_until(self, now: datetime) -> None:
        """Apply what has happened by now."""
        self.changes.sort(key=lambda change: change[0])
        while self.changes and self.changes[0][0] <= now:
            _, name, value = self.changes.pop(0)
            setattr(self, name, value)


# Two that look alike are still two: deletion must hit the one that is meant.
@dataclass(eq=False)
class Message(_Changing):
    """One message; `extra` goes out in every dialect as it is."""

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
    changes: list[Change] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Contact(_Changing):
    """One contact and every message that is planned up to the world's horizon.

    `number` is the digits of a number, or an identity such as `ZA.1349…` of a
    person whose number WhatsApp hides. `extra` goes out in every dialect as it is.
    """

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
    phone_number: str | None = None
    """The number as somebody typed it, where that is not the usual way."""
    channel: str = "whatsapp"
    """`web` for somebody who writes in the web chat."""
    utc_offset_h: int = 2
    busy_until: datetime | None = None
    """When the last planned exchange ends."""
    changes: list[Change] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    begin: Callable[["Contact"], None] | None = field(default=None, repr=False)
    """Called before the messages are first looked at: they are planned only then."""
    _messages: list[Message] = field(default_factory=list, init=False, repr=False)

    @property
    def messages(self) -> list[Message]:
        """Every message, also of the rest of the day, in the order in which they were made."""
        if self.begin:
            begin, self.begin = self.begin, None
            begin(self)
        return self._messages

    @property
    def written_number(self) -> str | None:
        """The number as a person writes it; None where there is no number."""
        if self.phone_number or not self.number.isdigit():
            return self.phone_number
        return f"+{self.number[:2]} {self.number[2:4]} {self.number[4:]}"

    def history(self, now: datetime) -> list[Message]:
        """The messages up to now, newest first; of equal times the later one first."""
        past = [message for message in reversed(self.messages) if message.at <= now]
        return sorted(past, key=lambda message: message.at, reverse=True)


def unread(history: list[Message]) -> int:
    """How many messages the customer sent since the business last wrote."""
    return next(
        (n for n, message in enumerate(history) if not message.sender.startswith("user-")),
        len(history),
    )


def uuid_of(text: str) -> str:
    """The same UUID for the same text."""
    return str(uuid.UUID(int=Random(text).getrandbits(128), version=4))


def wamid(text: str) -> str:
    """The same WhatsApp message id for the same text."""
    return f"wamid.HBgL{Random(text).getrandbits(160):040X}"
