"""Who a number or an id of WhatsApp stands for: what is a number, what is another kind of id.

Since 2026 people may hide their number: then a business-scoped id such as `ZA.1349` stands where
a number was. Group, device and `lid` forms are seen in comparable products.

Source: WhatsApp Cloud API, "Business-scoped user IDs"; FlowIQ documents numbers alone.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple


class Identity(NamedTuple):
    """A number (`kind` is `phone`) or another id by which a contact is known."""

    kind: str
    value: str
    """Digits of a number; any other id as it is."""


_JID = re.compile(r"(?P<user>[^@:]+)(:[0-9]{1,4})?(@(?P<server>[^@]+))?")
_AGENT = re.compile(r"[._][0-9]{1,3}(?=:)")
_NUMBER_SERVERS = {None, "s.whatsapp.net", "c.us"}
_KINDS = {"g.us": "group", "lid": "lid"}
_BSUID = re.compile(r"[A-Za-z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")

# What people write into numbers: spaces of every kind, hyphens and dashes, marks of direction.
_MARKS = r"\s(\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
_PHONE = re.compile(rf"[{_MARKS}]*\+?[{_MARKS}]*[0-9][0-9{_MARKS}).\-/\u2010-\u2015]*")
_PLAUSIBLE = range(5, 16)
"""Digits of a number: from a short code to what E.164 allows."""


def identity(text: str) -> Identity | None:
    """Who a text stands for; None if it can be no id, having neither a digit nor an @."""
    text = text.strip()
    jid = _JID.fullmatch(_AGENT.sub("", text, count=1))
    server = jid["server"] and jid["server"].lower() if jid else ""
    if jid and server in _NUMBER_SERVERS and (digits := _number(jid["user"])):
        return Identity("phone", digits)
    if server in _KINDS:
        return Identity(_KINDS[server], text)
    if _BSUID.fullmatch(text):
        return Identity("bsuid", text)
    # Words such as "unknown" would make one contact of many.
    return Identity("other", text) if re.search(r"[\d@]", text) else None


def _number(text: str) -> str:
    """The digits of a phone number, as the API compares it; empty if it is none."""
    text = "".join(str(unicodedata.decimal(sign, sign)) for sign in text)
    digits = re.sub("[^0-9]", "", text) if _PHONE.fullmatch(text) else ""
    return digits if len(digits) in _PLAUSIBLE else ""


def identities(texts: Iterable[str]) -> list[Identity]:
    """Whom the texts stand for, each once, in their order."""
    return list(dict.fromkeys(who for text in texts if (who := identity(text))))


def address(known: Sequence[Identity]) -> str:
    """What a conversation is asked by without an id of the API: a number, else the first id."""
    numbers_first = sorted(known, key=lambda who: who.kind != "phone")
    return numbers_first[0].value if known else ""


def identity_rows(
    row: dict[str, Any], known: Sequence[Identity], seen_at: datetime
) -> list[dict[str, Any]]:
    """The `contact_identities` rows of a contact's row and whom it stands for."""
    contact = {"tenant_id": row["tenant_id"], "contact_id": row["id"]}
    seen = {"first_seen_at": seen_at, "last_seen_at": seen_at}
    return [contact | who._asdict() | seen for who in known]
