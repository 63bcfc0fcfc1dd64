"""Who a text stands for: the forms that WhatsApp has, and what people write."""

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowiq_source.rows.convert import contact_row
from flowiq_source.rows.extras import extra_columns
from flowiq_source.rows.identities import Identity, address, identity, identity_rows

NOW = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)

KINDS: dict[str, list[str]] = {
    "phone": [
        "27700000001",
        "+27 (70) 000-0001",
        "(+27) 70 000 0001",
        "27.70.000.0001",
        "27/70/0000001",
        "+27\u00a070\u202f000\u20110001",
        "\u202a+27700000001\u202c",
        " 27700000001\n",
        "27700000001:12@s.whatsapp.net",
        "27700000001.0:12@s.whatsapp.net",
        "27700000001@S.WhatsApp.net",
        "27700000001@c.us",
        "27700000001:12",
        "٢٧٧٠٠٠٠٠٠٠١",
        "２７７００００００01",
    ],
    "bsuid": ["US.1349", "ZA.13491208655302741918", "us.a1", "US.ENT.13491A", "US." + "a1" * 64],
    "group": ["120363000000000000@g.us", "27700000001-1400000000@g.us"],
    "lid": ["27700000001@lid", "27700000001:3@lid"],
    "other": [
        "1234",
        "1234567890123456",
        "27700000001@newsletter",
        "status@broadcast",
        "27700000001 or 27700000002",
        "+27700000001/+27700000002",
        "-27700000001",
        "27700000001 ext. 5",
        "USA.1349",
        "US." + "1" * 129,
        "27²700000001",
        "@amahle",
        "wa:27700000001",
    ],
}


@pytest.mark.parametrize(
    ("kind", "text"), [(k, text) for k, texts in KINDS.items() for text in texts]
)
def test_every_form_has_its_kind(kind: str, text: str) -> None:
    """A number is its digits, without device and server; everything else is what it was."""
    assert identity(text) == Identity(kind, "27700000001" if kind == "phone" else text)


@pytest.mark.parametrize("text", ["", " ", "unknown", "n/a", "+", "()", "ñ"])
def test_words_are_nobody(text: str) -> None:
    """They would make one contact of many."""
    assert identity(text) is None


@given(st.text(st.characters(exclude_categories=()), max_size=12) | st.from_regex("[0-9+@.: -]*"))
def test_any_text_is_somebody_or_nobody(text: str) -> None:
    """Nothing raises; a number has ASCII digits of a plausible length; who it is stays the same."""
    who = identity(text)
    if who is None:
        return
    assert identity(who.value) in (who, Identity("phone", who.value))
    if who.kind == "phone":
        assert who.value.isascii()
        assert who.value.isdigit()
        assert 5 <= len(who.value) <= 15
    else:
        assert who.value == text.strip()


def test_every_number_and_id_of_a_contact_is_one_identity() -> None:
    """Under the columns' names and their aliases, each once, with the times it was seen."""
    raw = {
        "id": "c1",
        "whatsapp_id": "US.1349",
        "whatsapp_number": "27700000001",
        "phone_number": "+27 70 000 0001",
    }
    mapped = contact_row(raw, "acme", NOW, extra_columns())
    key = {"tenant_id": "acme", "contact_id": "c1"}
    seen = {"first_seen_at": NOW, "last_seen_at": NOW}
    assert identity_rows(mapped.row, mapped.identities, NOW) == [
        key | {"kind": "bsuid", "value": "US.1349"} | seen,
        key | {"kind": "phone", "value": "27700000001"} | seen,
    ]


def test_a_conversation_is_asked_for_by_a_number_before_any_other_id() -> None:
    """Numbers are what the API documents."""
    bsuid, phone = Identity("bsuid", "US.1"), Identity("phone", "27700000001")
    assert [address(known) for known in ([bsuid, phone], [bsuid], [])] == [phone.value, "US.1", ""]


@pytest.mark.parametrize("value", [None, True, [], {}, "x" * 513, "7" * 513, "none", ""])
def test_what_is_no_number_and_no_id_is_no_identity(value: object) -> None:
    """Nor does it raise."""
    mapped = contact_row({"phone_number": value}, "acme", NOW, extra_columns())
    assert (mapped.identities, mapped.addressable) == ([], False)
    assert identity_rows(mapped.row, mapped.identities, NOW) == []
