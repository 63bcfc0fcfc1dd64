"""What each `action` answers, from a world and the parameters of a request. Pure.

Source: API reference and OpenAPI file.
"""

import re
from collections.abc import Callable, Mapping

from flowiq_source.sandbox.dialects import contact_json, message_json, pagination_json
from flowiq_source.sandbox.model import Contact, Message
from flowiq_source.sandbox.replies import Refusal, Reply, documented, reply_json
from flowiq_source.sandbox.world import World

Params = dict[str, str]


def contacts(world: World, dialect: str, params: Params) -> Reply:
    """A page of contacts, all or those with a text in the name or digits in the number."""
    word = params.get("search", "").strip().lower()
    found = [contact for contact in world.contacts if _is_like(contact, word)]
    page, limit = _paging(params, default=50)
    shown = found[(page - 1) * limit : page * limit]
    body = {
        "success": True,
        "contacts": [contact_json(dialect, world.seen(contact), world.now) for contact in shown],
        "pagination": pagination_json(dialect, "Contacts", page, limit, len(found)),
        "count": len(shown),
    }
    return reply_json(200, body)


def find_by_phone(world: World, dialect: str, params: Params) -> Reply:
    """The contact with a number: `phoneNumber` in the quick start, else `whatsappNumber`."""
    original = params.get("phoneNumber") or params.get("whatsappNumber") or ""
    if not original:
        raise Refusal(400, "Phone number is required", "Please provide whatsappNumber")
    contact = _by_number(world, original)
    body = {
        "success": True,
        "contact": contact_json(dialect, world.seen(contact), world.now),
        "original_phone": original,
        "normalized_phone": contact.number,
    }
    return reply_json(200, body)


def conversation_messages(world: World, dialect: str, params: Params) -> Reply:
    """A page of a conversation, newest first, all or the messages with any of the terms."""
    contact = world.seen(_addressed(world, params))
    terms = _terms(world, params)
    history = [m for m in contact.history(world.now) if _matches(m, terms)]
    if _boolean(params, "ascending"):
        history.reverse()
    page, limit = _paging(params, default=10)
    shown = history[(page - 1) * limit : page * limit]
    body = {
        "success": True,
        "messages": [message_json(dialect, message) for message in shown],
        "pagination": pagination_json(dialect, "Messages", page, limit, len(history)),
        "count": len(shown),
        "searchTerms": terms or None,
        "filtered": bool(terms),
        "stored": False,
    }
    return reply_json(200, body)


ACTIONS: Mapping[str, Callable[[World, str, Params], Reply]] = {
    "contacts": contacts,
    "find-by-phone": find_by_phone,
    "conversation-messages": conversation_messages,
}


def normalized(number: str) -> str:
    """The digits of a number; an identity with letters in it stays as it is."""
    return number.strip() if _has_letters(number) else _digits(number)


def _addressed(world: World, params: Params) -> Contact:
    number, contact_id = params.get("whatsappNumber", ""), params.get("contactId", "")
    if contact_id:
        contact = world.by_id(contact_id)
        if contact is None:
            raise documented("no contact")
        return contact
    if not number:
        raise Refusal(400, "Contact is required", "Please provide whatsappNumber or contactId")
    return _by_number(world, number)


def _by_number(world: World, number: str) -> Contact:
    wanted = normalized(number)
    contact = world.find(wanted)
    if contact is None:
        raise documented("no number", normalized_phone=wanted)
    return contact


def _terms(world: World, params: Params) -> list[str]:
    """What is searched for: the reference says `query`, overview and sample clients `search`."""
    words = [*params.get("query", "").split(","), *params.get("search", "").split(",")]
    terms = list(dict.fromkeys(word.strip() for word in words if word.strip()))
    if order := params.get("orderId"):
        if order not in world.orders:
            raise documented("no order")
        terms.append(f"#{world.orders[order]}")
    return terms


def _matches(message: Message, terms: list[str]) -> bool:
    content = message.content.lower()
    return not terms or any(term.lower() in content for term in terms)


def _is_like(contact: Contact, word: str) -> bool:
    if word in (contact.full_name or "").lower() or word in contact.number.lower():
        return True
    digits = "" if _has_letters(word) else _digits(word)
    return bool(digits) and digits in contact.number


def _has_letters(text: str) -> bool:
    return re.search(r"[^\W\d_]", text) is not None


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def _paging(params: Params, default: int) -> tuple[int, int]:
    page = _integer(params, "page", 1, 10**9)
    return page, _integer(params, "limit", default, 100)


def _integer(params: Params, name: str, default: int, most: int) -> int:
    text = params.get(name, str(default))
    if not re.fullmatch("[0-9]{1,10}", text) or not 1 <= int(text) <= most:
        raise Refusal(400, f"Invalid {name}", f"{name} must be a number from 1 to {most}")
    return int(text)


def _boolean(params: Params, name: str) -> bool:
    text = params.get(name, "false")
    if text not in ("true", "false"):
        raise Refusal(400, f"Invalid {name}", f"{name} must be true or false")
    return text == "true"
