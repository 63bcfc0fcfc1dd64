"""An invented FlowIQ account, rendered to the bytes of every answer that can be asked of it.

The rows have the shape that the sandbox's dialects give them, without spaces. Everything
follows from the seed.
"""

import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from flowiq_source.sandbox.dialects import contact_json, message_json, pagination_json
from flowiq_source.sandbox.world import Contact, Message

PAGE_SIZE = 100
"""The only `limit` that is answered: ours and every peer ask for it."""

NEWEST = datetime(2025, 6, 30, 18, 0, tzinfo=timezone.utc)
"""No message is newer: a date ahead of the clock would make a sync read it again."""

OK = b"HTTP/1.1 200 OK\r\n"

_TEMPLATES = 1_000
_MEDIA_EVERY, _REACTION_EVERY = 10, 25
"""Reactions have the share that the project's sandbox has: 16 of 424."""

_ID, _AT, _WORD, _NUMBER = "@id@", "@at@", "@word@", "@number@"
_OPENERS = ["", "Hi, ", "Good morning! ", "שלום, ", "Hello there 👋 ", "Quick question: ", "תודה! "]
_MIDDLES = [
    "where is my order #@word@? It should have come by Thursday",
    "order #@word@ left our warehouse this morning, the courier calls you an hour before delivery",
    "is the blue one (article @word@) back in stock? Do you deliver on Saturdays?",
    "האם אפשר לשנות את הכתובת של הזמנה @word@ לפני המשלוח?",
    "we deliver Monday to Saturday from 08:00 to 17:00; your reference number is @word@",
    "the refund for #@word@ was paid out today and takes five working days",
    "can I pay for @word@ by card or EFT when it is delivered, or only online in advance?",
    "the parcel with number @word@ came damaged 😟 I have sent you two photos of the box",
    "your appointment @word@ is confirmed for tomorrow at half past nine, see you then 🙏🏽",
    "הזמנה מספר @word@ מוכנה לאיסוף בחנות, אנחנו פתוחים עד שש בערב",
]
_CLOSERS = ["", " Thank you!", " 👍", " Thanks so much 🙏🏽", " Please let me know.", " תודה רבה"]
_BUTTONS = '{"header": "Your order", "body": "#@word@ is on its way", "buttons": ["Track", "Help"]}'
_TRANSCRIPTION = "Hi, I wanted to ask whether you could deliver a bit later today"
_MEDIA = ["image", "image", "document", "audio", "video", "interactive"]
_OURS = ["bot-whatsapp", "bot-whatsapp", "human-whatsapp", "human-whatsapp", "system"]
_STATUSES = ["read"] * 7 + ["delivered"] * 2 + ["sent", "failed"]
_EMOJI = ["👍", "❤️", "🙏🏽", "👩‍👩‍👧"]


@dataclass
class Account:
    """The answers: pages of contacts, and pages of messages by contact id and by number.

    `totals` are the rows of the list of contacts and of every conversation.
    """

    totals: dict[str, int]
    contacts: list[bytes] = field(default_factory=list)
    messages: dict[str, list[bytes]] = field(default_factory=dict)


def render_account(contacts: int, messages: int, seed: int, dialect: str) -> Account:
    """An account of so many contacts, each with so many messages."""
    rng = random.Random(seed)
    templates = [_template(rng, index, dialect) for index in range(_TEMPLATES)]
    account = Account({"Contacts": contacts, "Messages": messages})
    rows = []
    for index in range(contacts):
        contact = _contact(rng, index)
        rows.append(_compact(contact_json(dialect, contact, NEWEST)))
        texts = _conversation(rng, templates, contact.number, messages)
        pages = _pages(dialect, "Messages", texts)
        account.messages[contact.id] = account.messages[contact.number] = pages
    account.contacts = _pages(dialect, "Contacts", rows)
    return account


def answer(status: bytes, body: bytes) -> bytes:
    """A JSON answer, head and body."""
    head = b"Content-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    return status + head + body


def empty_page(dialect: str, kind: str, number: int, total: int) -> bytes:
    """The answer for a page behind the last one; `kind` is Messages or Contacts."""
    return _page(dialect, kind, number, [], total)


def _pages(dialect: str, kind: str, rows: list[str]) -> list[bytes]:
    """Every page of a listing, of which an empty one has one too."""
    return [
        _page(dialect, kind, start // PAGE_SIZE + 1, rows[start : start + PAGE_SIZE], len(rows))
        for start in range(0, len(rows) or 1, PAGE_SIZE)
    ]


def _page(dialect: str, kind: str, number: int, rows: list[str], total: int) -> bytes:
    pagination = _compact(pagination_json(dialect, kind, number, PAGE_SIZE, total))
    tail = ',"searchTerms":null,"filtered":false,"stored":false' if kind == "Messages" else ""
    body = (
        f'{{"success":true,"{kind.lower()}":[{",".join(rows)}],'
        f'"pagination":{pagination},"count":{len(rows)}{tail}}}'
    )
    return answer(OK, body.encode())


def _conversation(rng: random.Random, templates: list[str], number: str, count: int) -> list[str]:
    """The messages of one conversation, newest first; some hours lie between two of them."""
    at = NEWEST - timedelta(seconds=rng.random() * 120 * 86_400)
    texts = []
    for _ in range(count):
        at -= timedelta(milliseconds=rng.randrange(15_000, 20_000_000))
        time = at.isoformat(timespec="milliseconds")[:-6] + "Z"
        text = rng.choice(templates).replace(_ID, f"wamid.HBgL{rng.getrandbits(160):040X}")
        text = text.replace(_AT, time).replace(_WORD, str(rng.randrange(100_000, 1_000_000)))
        texts.append(text.replace(_NUMBER, number))
    return texts


def _template(rng: random.Random, index: int, dialect: str) -> str:
    """A message with placeholders for what differs between two of the same wording."""
    content = rng.choice(_OPENERS) + rng.choice(_MIDDLES) + rng.choice(_CLOSERS)
    sender = rng.choice(_OURS) if index % 2 else "user-whatsapp"
    message = Message(_ID, NEWEST, sender, content, rng.choice(_STATUSES))
    if sender == "human-whatsapp":
        message.assignee = _uuid(random.Random(index % 3))
    if index % _MEDIA_EVERY == 0:
        _attach(message, rng.choice(_MEDIA))
    if index % _REACTION_EVERY == 1:
        message.reactions = [{"emoji": rng.choice(_EMOJI), "sender": _NUMBER}]
    row = message_json(dialect, message)
    row["timestamp" if "timestamp" in row else "created_at"] = _AT
    return _compact(row)


def _attach(message: Message, media_type: str) -> None:
    message.media_type = media_type
    if media_type == "interactive":
        message.content = _BUTTONS
        return
    message.media_url = f"https://media.example.com/{_WORD}"
    if media_type == "audio":
        message.content, message.voice_transcription = "", _TRANSCRIPTION


def _contact(rng: random.Random, index: int) -> Contact:
    return Contact(
        id=_uuid(rng),
        number=f"2782{index:07d}",
        full_name=None if index % 7 == 6 else f"Customer {index}",
        created_at=NEWEST - timedelta(days=400, seconds=rng.randrange(8_000_000)),
        email=None if index % 3 else f"customer{index}@example.com",
        tags=[None, [], ["customer"], ["customer", "premium"]][index % 4],
        bot_status=["active", "paused", None][index % 3],
        archived=index % 5 == 4,
    )


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _compact(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))
