"""The plain business: a few messages a day between 8 and 18 o'clock, whoever they are from."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from flowiq_source.sandbox.model import Contact, Message, uuid_of, wamid

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
_AGENTS = [uuid_of(name) for name in "ab"]


def plain_day(seed: int, contact: Contact, day: datetime) -> Iterator[Message]:
    """A contact's messages of the day that begins at this time."""
    random = Random(f"{seed}/day/{contact.number}/{day.date()}")
    if random.random() > (0.9 if contact.busy else 0.25):
        return
    at = day + timedelta(seconds=random.randrange(32_400))
    for turn in range(random.randrange(1, 4)):
        at += timedelta(seconds=random.randrange(20, 600))
        if at >= contact.created_at:
            name = f"{seed}/{contact.number}/{at.isoformat()}/{turn}"
            yield _message(random, contact, at, turn, name)


def _message(random: Random, contact: Contact, at: datetime, turn: int, name: str) -> Message:
    ours = turn % 2 == 1
    order = random.randrange(4200, 4300)
    sender = random.choice(_OUR_SENDERS) if ours else "user-whatsapp"
    message = Message(
        id=wamid(name),
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
