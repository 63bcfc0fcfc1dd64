"""The same contact or message as each of the vendor's documents writes it.

Source: quick start ("seed"), API reference ("reference") and product overview ("overview").
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from flowiq_source.sandbox.model import Contact, Message, unread

Json = dict[str, Any]

DIALECTS = ("seed", "reference", "overview", "mixed")
"""`mixed` is no document: it changes the dialect from row to row."""


def iso(time: datetime | None) -> str | None:
    """ISO 8601 with Z, as in every document; fractions only where there are any."""
    return time.isoformat().replace("+00:00", "Z") if time else None


def message_json(dialect: str, message: Message) -> Json:
    """A message as the dialect writes it."""
    if dialect == "mixed":
        dialect = DIALECTS[sum(message.id.encode()) % 3]
    return _MESSAGE[dialect](message) | message.extra


def contact_json(dialect: str, contact: Contact, now: datetime) -> Json:
    """A contact as the dialect writes it."""
    if dialect == "mixed":
        dialect = DIALECTS[sum(contact.id.encode()) % 3]
    # The history first: a contact lives only once somebody looks at it.
    history = contact.history(now)
    return _CONTACT[dialect](contact, history) | contact.extra


def pagination_json(
    dialect: str, kind: str, page: int, limit: int, total: int
) -> dict[str, int | bool]:
    """The pagination block; `kind` is Messages or Contacts."""
    pages = -(-total // limit)
    previous = "hasPreviousPage" if dialect == "seed" else "hasPrevPage"
    block: dict[str, int | bool] = {
        "currentPage": page,
        "totalPages": pages,
        f"total{kind}": total,
        "hasNextPage": page < pages,
        previous: page > 1,
    }
    if dialect != "seed":
        block[f"{kind.lower()}PerPage"] = limit
    return block


def _seed_message(message: Message) -> Json:
    return {
        "id": message.id,
        "content": message.content,
        "sender": message.sender,
        "status": message.status,
        "timestamp": iso(message.at),
        "mediaType": message.media_type,
        "mediaUrl": message.media_url,
        "voiceTranscription": message.voice_transcription,
        "assignee": message.assignee,
        "reactions": message.reactions,
    }


def _reference_message(message: Message) -> Json:
    return {
        "message": message.content,
        "sender_type": message.sender,
        "created_at": iso(message.at),
        "message_status": message.status,
        "media_type": message.media_type,
        "media_url": message.media_url,
        "assignee": message.assignee,
        "voice_note_transcription": message.voice_transcription,
        "reactions": message.reactions,
    }


def _reference_contact(contact: Contact, history: list[Message]) -> Json:
    return {
        "id": contact.id,
        "full_name": contact.full_name,
        "whatsapp_id": contact.number,
        "phone_number": contact.written_number,
        "email": contact.email,
        "created_at": iso(contact.created_at),
        "tags": contact.tags,
        "has_unread_messages": unread(history) > 0,
        "bot_status": contact.bot_status,
        "archived": contact.archived,
    }


def _overview_contact(contact: Contact, history: list[Message]) -> Json:
    return {
        "contact_name": contact.full_name,
        "whatsapp_number": contact.number,
        "last_message": history[0].content if history else None,
        "last_message_time": iso(history[0].at) if history else None,
        "unread_count": unread(history),
        "profile_picture_url": f"https://media.example.com/{contact.number[-4:]}.jpg",
    }


_MESSAGE: dict[str, Callable[[Message], Json]] = {
    "seed": _seed_message,
    "reference": _reference_message,
    "overview": _reference_message,
}

_CONTACT: dict[str, Callable[[Contact, list[Message]], Json]] = {
    # The quick start does not show a contact; the reference's shape stands in.
    "seed": _reference_contact,
    "reference": _reference_contact,
    "overview": _overview_contact,
}
