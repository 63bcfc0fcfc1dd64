"""The optional fields that only some of the documents mention.

Source: the webhooks' full row, the answer to a new contact, and the requests to send a message.
The documents give names; where they give no value, the one here is invented.
"""

from random import Random
from typing import Any

from flowiq_source.sandbox.model import Contact, Message, uuid_of

_OFFICE = {
    "latitude": -33.9249,
    "longitude": 18.4241,
    "name": "Cape Town Office",
    "address": "123 Main Street, Cape Town",
}
_FILES = {"document": "Invoice_2025.pdf", "image": "photo.jpg", "video": "clip.mp4"}


def contact_fields(contact: Contact, seed: int) -> dict[str, Any]:
    """What else may be known of a contact."""
    random = Random(f"fields/{contact.id}")
    return {
        "organization_id": uuid_of(f"organization/{seed}"),
        "allow_broadcast": random.random() < 0.8,
        "active_status": random.choice(["active", "inactive", None]),
        "blocked": random.random() < 0.05,
        "source": {"type": contact.channel},
    }


def message_fields(contact: Contact, message: Message) -> dict[str, Any]:
    """What else may be known of a message that is about to be added to the contact's."""
    random = Random(f"fields/{message.id}")
    plain = message.media_type is None
    kind = random.choice(["text"] * 17 + ["location", "button", "sticker"]) if plain else None
    before = contact.messages[-1] if contact.messages and random.random() < 0.1 else None
    human, bot = message.sender.startswith("human-"), message.sender.startswith("bot-")
    return {
        "message_type": kind or message.media_type,
        "member_id": uuid_of(f"member/{random.randrange(3)}") if human else None,
        "broadcast_id": uuid_of("broadcast") if bot and random.random() < 0.1 else None,
        "reply_context_id": before and before.extra.get("whatsapp_message_id", before.id),
        "media_file_name": _FILES.get(message.media_type or ""),
        "location_data": _OFFICE if kind == "location" else None,
    }
