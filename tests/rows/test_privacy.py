"""What a policy keeps of rows, without a pipeline."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import pytest

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.privacy import policy_of
from flowiq_source.rows.arrow import map_page, message_table, read_rows
from flowiq_source.rows.convert import Mapped, Origin, contact_row, rejected_rows
from flowiq_source.rows.extras import extra_columns
from flowiq_source.rows.privacy import Hasher, Policy, normal
from flowiq_source.settings import Settings

NOW = datetime(2026, 3, 2, tzinfo=timezone.utc)
KEY = "0123456789abcdef" * 2
ORIGIN = Origin(tenant_id="t", contact_id="c", whatsapp_id="27825550101", synced_at=NOW, scan=1)


def policy(**settings: Any) -> Policy:
    """The policy that these settings make."""
    made = Settings(bearer_token="token", hash_key=KEY)
    for name, value in settings.items():
        setattr(made, name, value)
    return policy_of(made)


def contact(raw: Mapping[str, Any]) -> Mapped:
    """A mapped contact."""
    return contact_row(dict(raw), "t", NOW, extra_columns())


def messages(text: bytes, kept: Policy, *, columnar: bool = False) -> list[dict[str, Any]]:
    """What the policy keeps of a page, by itself or through Arrow."""
    page = map_page(read_rows(text), ORIGIN, extra_columns(), columnar=columnar)
    flat = kept.arrow(message_table([page])).to_pylist()
    return [*flat, *kept.rows("messages", page.rows)]


@pytest.mark.parametrize(
    "text", ["27825550101", "+27 82 555-0101", "27825550101:3@s.whatsapp.net", "(27) 82.555.0101"]
)
def test_a_number_has_one_hash_however_it_is_written(text: str) -> None:
    """Joins by it hold."""
    assert Hasher(KEY)(text) == Hasher(KEY)("27825550101")


def test_a_hash_is_128_bits_and_another_key_gives_another() -> None:
    """Without the key nobody can try all numbers; with it anybody can compute one."""
    hasher = Hasher(KEY)
    documented = hmac.new(KEY.encode(), b"27825550101", hashlib.sha256).hexdigest()[:32]
    assert hasher("+27 82 555 0101") == documented
    assert len(bytes.fromhex(hasher("27825550101"))) == 16
    assert hasher("27825550101") != Hasher(KEY[::-1])("27825550101")
    assert hasher.key_id != Hasher(KEY[::-1]).key_id
    assert hasher("") == ""


def test_a_policy_without_settings_keeps_all() -> None:
    """The rows are the same."""
    rows = [contact({"id": "a", "full_name": "Alice"}).row]
    assert policy().rows("contacts", rows) == rows


@pytest.mark.parametrize("columnar", [True, False])
def test_columns_are_dropped_and_hashed(columnar: bool) -> None:
    """The same by rows and through Arrow; what is null stays null."""
    kept = policy(columns={"messages.content": "drop", "messages.whatsapp_id": "hash"})
    page = b'[{"id": "1", "content": "Hello", "timestamp": null}, {"id": "2", "sender": "system"}]'
    rows = messages(page, kept, columnar=columnar)
    assert [row["content"] for row in rows] == [None, None]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert {row["whatsapp_id"] for row in rows} == {Hasher(KEY)("27825550101")}
    assert rows[1]["sender"] == "system"


def test_a_second_name_of_a_dropped_column_is_dropped_too() -> None:
    """A row may have a column by two names, of which one becomes an undocumented column."""
    page = b'[{"id": "1", "content": "Hello", "message": "Hello you", "Content": "Hi"}]'
    plain = messages(page, policy())[0]
    assert (plain["message"], plain["api_content"]) == ("Hello you", "Hi")
    [row] = messages(page, policy(columns={"messages.content": "drop"}))
    assert [row[name] for name in ("content", "message", "api_content")] == [None] * 3


def test_elements_of_lists_are_hashed_or_dropped() -> None:
    """Tags and reactions are tables of their own, and are named as these."""
    mapped = contact({"id": "a", "tags": ["vip", "Alice"]})
    hashed = policy(columns={"contacts__tags.value": "hash"})
    assert hashed.rows("contacts", [mapped.row])[0]["tags"] == [*map(Hasher(KEY), ("vip", "Alice"))]
    dropped = policy(columns={"contacts__tags.value": "drop"})
    assert dropped.rows("contacts", [mapped.row])[0]["tags"] == []
    page = b'[{"id": "1", "reactions": [{"emoji": "x", "sender": "27820000001"}]}]'
    [row] = messages(page, policy(columns={"messages__reactions.sender": "drop"}))
    assert row["reactions"] == [{"emoji": "x", "sender": None}]


def test_what_did_not_fit_goes_where_its_column_goes() -> None:
    """`raw` would show what the column does not."""
    mapped = contact({"id": "a", "email": {"x": "alice@example.com"}, "tags": [{"y": "Alice"}]})
    rows = list(rejected_rows(mapped, "contacts", NOW))
    wanted = {"contacts.email": "drop", "contacts__tags.value": "hash"}
    kept = {
        row["column_name"]: row["raw"] for row in policy(columns=wanted).rows("rejected_rows", rows)
    }
    assert kept["email"] == ""
    assert len(kept["tags[0]"]) == 32
    assert all("lice" in row["raw"] for row in policy().rows("rejected_rows", rows))


def test_pseudonyms_stand_for_whatever_says_who_it_is() -> None:
    """Name, numbers and address are hashes, previews and pictures are gone."""
    mapped = contact(
        {
            "id": "3f2b8a52-8d0e-4c35-9a53-0a4e6e1d1c11",
            "full_name": "Alice",
            "whatsapp_id": "27825550101",
            "phone_number": "+27 82 555 0101",
            "last_message": "Hello",
            "profile_picture_url": "https://example.com/a.jpg",
            "nickname": "Ally",
        }
    )
    kept = policy(pseudonymise=True)
    [row] = kept.rows("contacts", [kept.contact(mapped).row])
    assert row["id"] == "3f2b8a52-8d0e-4c35-9a53-0a4e6e1d1c11"
    assert row["whatsapp_id"] == row["phone_number"] == Hasher(KEY)("27825550101")
    assert row["full_name"] == Hasher(KEY)("Alice")
    assert (row["last_message"], row["profile_picture_url"]) == (None, None)
    assert "nickname" not in row


@pytest.mark.parametrize(
    "raw",
    [
        {"whatsapp_id": "27825550101"},
        {"id": "27825550101", "whatsapp_id": "27825550101"},
        {"id": "ZA.1349", "full_name": "Alice"},
        {"full_name": "Alice"},
    ],
)
def test_a_contact_id_that_says_who_it_is_becomes_a_pseudonym(raw: dict[str, str]) -> None:
    """A number, another id of WhatsApp, and a digest of names that anybody could guess."""
    plain = contact(raw).row["id"]
    kept = policy(pseudonymise=True).contact(contact(raw)).row["id"]
    assert kept == Hasher(KEY).exact(plain)


def test_ids_and_senders_of_messages_become_pseudonyms_where_they_say_who_it_is() -> None:
    """WhatsApp's own ids hold the number in Base64; a UUID and a role stay."""
    uuid = "3f2b8a52-8d0e-4c35-9a53-0a4e6e1d1c11"
    page = b"""[{"id": "wamid.HBgLMjc4MjU1NTAxMDE=", "sender": "+27 82 555 0101"},
                {"id": "%s", "sender": "user-whatsapp"}, {"sender": "system"}]""" % uuid.encode()
    first, second, third = messages(page, policy(pseudonymise=True))
    assert (len(first["id"]), first["sender"]) == (32, Hasher(KEY)("27825550101"))
    assert (second["id"], second["sender"]) == (uuid, "user-whatsapp")
    computed = messages(page, policy())[2]["id"]
    assert third["id"] == Hasher(KEY).exact(computed)


def test_undocumented_fields_are_kept_by_name() -> None:
    """With an allow-list only those on it, with `pseudonymise` alone none."""
    page = b'[{"id": "1", "messageType": "text", "note": "x", "27820000001": "y"}]'
    [row] = messages(page, policy(pseudonymise=True))
    assert {"message_type", "note", "undocumented"} & set(row) == set()
    for more in ({}, {"pseudonymise": True}):
        [row] = messages(page, policy(keep_undocumented=["messageType"], **more))
        assert row["message_type"] == "text"
        assert {"note", "undocumented"} & set(row) == set()


@pytest.mark.parametrize(
    "hidden", [{"columns": {"contacts.whatsapp_id": "hash"}}, {"pseudonymise": True}]
)
def test_what_the_state_keeps_of_a_number_is_made_of_its_keyed_hash(hidden: Any) -> None:
    """A plain checksum could be tried out; without a key there is none."""
    number = "27825550101"

    def kept(raw: Mapping[str, Any], **settings: Any) -> str:
        return policy(**settings).contact(contact(raw)).number_id

    raw = {"id": "7", "whatsapp_id": number}
    assert kept(raw) == number
    assert kept(raw, **hidden) == Hasher(KEY).exact(number)
    assert not kept(raw, columns={"contacts.phone_number": "drop"}, hash_key=None)
    assert not kept({"id": "7"}, **hidden)


def test_columns_override_what_pseudonymise_does() -> None:
    """Whoever needs the name in clear says so."""
    row = contact({"id": "a", "full_name": "Alice", "email": "a@example.com"}).row
    kept = policy(
        pseudonymise=True, columns={"contacts.full_name": "keep", "contacts.email": "drop"}
    )
    [row] = kept.rows("contacts", [row])
    assert (row["full_name"], row["email"]) == ("Alice", None)


@pytest.mark.parametrize("columnar", [True, False])
def test_what_a_forgotten_person_wrote_elsewhere_is_blank(columnar: bool) -> None:
    """The API goes on counting the message, so the row stays; a reaction goes."""
    page = b"""[{"id": "1", "content": "Me", "sender": "27825550101", "media_url": "u"},
                {"id": "2", "content": "You", "sender": "user-whatsapp"},
                {"id": "3", "reactions": [{"emoji": "x", "sender": "+27825550101"},
                                          {"emoji": "y"}]}]"""
    kept = policy().without([Hasher(KEY)("27825550101")])
    rows = {row["id"]: row for row in messages(page, kept, columnar=columnar)}
    assert [rows["1"][name] for name in ("content", "sender", "media_url")] == [None] * 3
    assert rows["2"]["content"] == "You"
    assert rows["3"]["reactions"] == [{"emoji": "y", "sender": None}]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"messages.contnt": "drop"}, "did you mean messages.content"),
        ({"message.content": "drop"}, "did you mean messages.content"),
        ({"content": "drop"}, "no column"),
        ({"messages.content": "delete"}, '"keep", "hash" or "drop"'),
        ({"messages.content": ["drop"]}, '"keep", "hash" or "drop"'),
        ({"messages.id": "drop"}, "has to stay"),
        ({"messages.scan": "drop"}, "has to stay"),
        ({"contacts.tenant_id": "hash"}, "has to stay"),
        ({"contact_identities.value": "drop"}, "is a key"),
        ({"contacts.created_at": "hash"}, "holds no text"),
    ],
)
def test_a_column_that_cannot_be_treated_so_is_refused(columns: Any, says: str) -> None:
    """In one line, with the nearest name."""
    with pytest.raises(ConfigurationError, match=says) as refused:
        policy(columns=columns)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "settings", [{"pseudonymise": True}, {"columns": {"contacts.email": "hash"}}]
)
def test_a_hash_without_a_key_is_refused(settings: dict[str, Any]) -> None:
    """Dropping needs none."""
    with pytest.raises(ConfigurationError, match="hash_key is not set"):
        policy(hash_key=None, **settings)
    assert policy(hash_key=None, columns={"contacts.email": "drop"}).actions


def test_normal_text_is_digits_or_has_no_space_around() -> None:
    """Nothing else is changed: two names stay two."""
    assert normal(" Alice ") == "Alice"
    assert normal("+27 82 555 0101") == "27825550101"
