"""The person in the vendor's examples, with the conversation that they count.

Source: OpenAPI file and quick start of the API reference: 48 messages on 5 pages of 10, of which
the newest two are shown; the search terms of the reference; the order number of the search by
order.
"""

from datetime import datetime, timedelta, timezone

from flowiq_source.sandbox.model import Contact, Message, wamid

_AT = datetime(2025, 1, 10, 14, 30, tzinfo=timezone.utc)
_SHOWN = [
    (_AT, "bot-whatsapp", "Hello! How can I help you today?"),
    (_AT - timedelta(seconds=15), "user-whatsapp", "I need help with my order"),
]
_EARLIER = [
    ("user-whatsapp", "Where is my order #4275?"),
    ("bot-whatsapp", "Order #4275 left our warehouse this morning."),
    ("user-whatsapp", "It is urgent, please help"),
    ("human-whatsapp", "I have asked the courier to come today."),
]
_COUNT = 48


def john_doe() -> tuple[Contact, list[Message]]:
    """John Doe, 27123456789, and what was said, oldest first."""
    contact = Contact(
        id="123e4567-e89b-12d3-a456-426614174000",
        number="27123456789",
        full_name="John Doe",
        created_at=_AT,
        email="john@example.com",
        tags=["customer", "premium"],
        added=True,
        phone_number="+27 12 345 6789",
    )
    messages = [_message(age) for age in reversed(range(_COUNT))]
    # The documented example of a reaction.
    messages[1].reactions = [{"emoji": "👍", "sender": contact.number}]
    return contact, messages


def _message(age: int) -> Message:
    """The message that so many newer ones have followed."""
    if age < len(_SHOWN):
        at, sender, content = _SHOWN[age]
    else:
        at = _AT - timedelta(hours=6 * age)
        sender, content = _EARLIER[(_COUNT - 1 - age) % len(_EARLIER)]
    return Message(wamid(f"john/{age}"), at, sender, content, status="read")
