"""The invented business has what its options say, and nothing of it by default."""

import re
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from flowiq_source.sandbox import Sandbox, World
from flowiq_source.sandbox.dialects import DIALECTS
from flowiq_source.sandbox.model import Contact, Message
from flowiq_source.sandbox.world import planned_for
from tests.sandbox.test_sandbox import (
    OVERVIEW_CONTACT,
    REFERENCE_CONTACT,
    REFERENCE_MESSAGE,
    SEED_MESSAGE,
    ask,
    conforms,
    contacts,
    messages,
)

DAY = timedelta(days=1)
OPTIONS = ("web_chat", "hidden_numbers", "optional_fields", "uuid_ids")
CONTACT_FIELDS = {"organization_id", "allow_broadcast", "active_status", "blocked", "source"}
MESSAGE_FIELDS = {"message_type", "member_id", "broadcast_id", "reply_context_id"}
MESSAGE_FIELDS |= {"media_file_name", "location_data"}


def test_a_world_of_any_size_is_made_at_once() -> None:
    """Nothing of it is planned before it is asked for."""
    world = World(contacts=10**12)
    world.advance(DAY)
    assert "_planned" not in vars(world)


def test_looking_at_a_large_world_does_not_fill_the_memory() -> None:
    """What the API shows of a contact is planned for that answer alone."""
    with Sandbox() as sandbox:
        shown = [messages(sandbox, row["whatsapp_id"]) for row in contacts(sandbox)]
        assert (all(shown), sandbox.world._living) == (True, {})


@pytest.mark.parametrize("lively", [False, True])
@pytest.mark.parametrize("days", [0, 17])
def test_who_looks_does_not_change_what_there_is(lively: bool, days: int) -> None:
    """A contact is the same whether it was touched, before or after the clock went on, or not."""
    options: dict[str, Any] = dict.fromkeys(OPTIONS, True)
    answers = []
    for touched_before, touched_after in [(False, False), (True, False), (False, True)]:
        with Sandbox(World(lively=lively, **options), dialect="seed", limited=False) as sandbox:
            if touched_before:
                assert all(contact.messages for contact in sandbox.world.contacts)
            sandbox.world.advance(days * DAY)
            if touched_after:
                assert all(contact.messages for contact in sandbox.world.contacts)
            people = contacts(sandbox)
            answers.append((people, [messages(sandbox, row["whatsapp_id"]) for row in people]))
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("present", [0, 1, 4, 5, 6, 11, 12, 40, 99, 1000])
def test_as_many_contacts_are_there_as_are_wanted(present: int) -> None:
    """However many more join later."""
    assert len(World(planned_for(present)).contacts) == present


def test_contacts_that_join_in_many_years_do_not_break_the_calendar() -> None:
    """The ten-millionth contact is planned as the first."""
    assert World()._contact(11_999_999).created_at.year < 9999


@pytest.fixture
def john() -> Any:
    """The API of a world with the documented person in it."""
    with Sandbox(World(contacts=0, documented=True), limited=False) as sandbox:
        yield sandbox


def test_the_documented_person_is_as_in_the_examples(john: Sandbox) -> None:
    """Asking as the examples ask is answered as they show it."""
    body = ask(john, whatsappNumber="27123456789", limit=10).json()
    conforms(body, "ConversationResponse")
    assert body["messages"][0] == {
        "message": "Hello! How can I help you today?",
        "sender_type": "bot-whatsapp",
        "created_at": "2025-01-10T14:30:00Z",
        "message_status": "read",
        "media_type": None,
        "media_url": None,
        "assignee": None,
        "voice_note_transcription": None,
        "reactions": [],
    }
    assert body["pagination"] == {
        "currentPage": 1,
        "totalPages": 5,
        "totalMessages": 48,
        "messagesPerPage": 10,
        "hasNextPage": True,
        "hasPrevPage": False,
    }
    [contact] = contacts(john, search="john")
    assert contact == {
        "id": "123e4567-e89b-12d3-a456-426614174000",
        "full_name": "John Doe",
        "whatsapp_id": "27123456789",
        "phone_number": "+27 12 345 6789",
        "email": "john@example.com",
        "created_at": "2025-01-10T14:30:00Z",
        "tags": ["customer", "premium"],
        "has_unread_messages": False,
        "bot_status": "active",
        "archived": False,
    }
    assert ask(john, contactId=contact["id"]).json() == body


@pytest.mark.parametrize(
    "params", [{"query": "urgent,help,order"}, {"search": "urgent"}, {"orderId": "1234567890"}]
)
def test_the_documented_searches_find_something(john: Sandbox, params: dict[str, str]) -> None:
    """The terms of the examples stand in the documented person's messages."""
    body = ask(john, whatsappNumber="27123456789", **params).json()
    assert (body["count"], body["filtered"]) == (10, True)


def test_the_documented_person_is_not_counted_among_the_invented() -> None:
    """Nor are these others when he is there."""
    plain, with_john = World(), World(documented=True)
    people = [contact.id for contact in with_john.contacts]
    assert people[1:] == [contact.id for contact in plain.contacts]


def test_a_world_without_options_has_what_it_always_had() -> None:
    """Numbers, WhatsApp's own ids and channel, and no field beside those of the dialect."""
    with Sandbox(limited=False) as sandbox:
        for dialect in ("seed", "reference", "overview"):
            sandbox.dialect = dialect
            people = contacts(sandbox)
            names = OVERVIEW_CONTACT if dialect == "overview" else REFERENCE_CONTACT
            assert {*people[0]} == {*names.split()}
            row = messages(sandbox, sandbox.world.contacts[0].number)[0]
            names = SEED_MESSAGE if dialect == "seed" else REFERENCE_MESSAGE
            assert {*row} == {*names.split()}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_message_may_have_an_id_of_its_own_beside_whatsapps(dialect: str) -> None:
    """In every dialect, and whoever made the message."""
    with Sandbox(World(uuid_ids=True, documented=True), dialect=dialect) as sandbox:
        sandbox.world.add_message(sandbox.world.contacts[1])
        rows = [messages(sandbox, contact.number)[0] for contact in sandbox.world.contacts[:3]]
    for row in rows:
        assert re.fullmatch(r"[0-9a-f-]{36}", row["id"])
        assert row["whatsapp_message_id"].startswith("wamid.HBgL")


@pytest.mark.parametrize("lively", [False, True])
def test_some_write_in_the_web_chat(lively: bool) -> None:
    """All of their conversation goes through it, and none of the others'."""
    world = World(web_chat=True, lively=lively)
    for contact in world.contacts:
        world.add_message(contact)
        channels = {m.sender.partition("-")[2] for m in contact.messages} - {""}
        assert channels == {contact.channel}
    assert {contact.channel for contact in world.contacts} == {"web", "whatsapp"}


def test_some_have_no_number() -> None:
    """Their business-scoped id stands where the number is, and finds them."""
    with Sandbox(World(hidden_numbers=True), limited=False) as sandbox:
        hidden = [row for row in contacts(sandbox) if row["phone_number"] is None]
        assert 0 < len(hidden) < len(sandbox.world.contacts)
        for row in hidden:
            conforms(row, "Contact")
            assert re.fullmatch(r"ZA\.[0-9]{16}", row["whatsapp_id"])
            assert messages(sandbox, row["whatsapp_id"])
            assert contacts(sandbox, search=row["whatsapp_id"]) == [row]
            found = ask(sandbox, action="find-by-phone", whatsappNumber=row["whatsapp_id"]).json()
            assert (found["contact"], found["normalized_phone"]) == (row, row["whatsapp_id"])


@pytest.mark.parametrize("identity", ["27700000001:12@s.whatsapp.net", "1203@g.us", "77@lid"])
def test_any_identity_can_be_a_contacts(sandbox: Sandbox, identity: str) -> None:
    """Only a number is brought into the form of its digits."""
    sandbox.world.add_message(sandbox.world.add_contact(identity))
    assert len(messages(sandbox, identity)) == 1
    assert (
        ask(sandbox, whatsappNumber="".join(c for c in identity if c.isdigit())).status_code == 404
    )


def test_rows_may_have_every_field_that_any_document_mentions() -> None:
    """Filled here and there, null elsewhere."""
    with Sandbox(World(optional_fields=True), limited=False) as sandbox:
        people = contacts(sandbox)
        rows = [row for person in people for row in messages(sandbox, person["whatsapp_id"])]
    person = people[0]
    assert {*person} - {*REFERENCE_CONTACT.split()} == CONTACT_FIELDS
    assert person["source"] == {"type": "whatsapp"}
    assert {*rows[0]} - {*REFERENCE_MESSAGE.split()} == MESSAGE_FIELDS
    for name in MESSAGE_FIELDS:
        assert any(row[name] for row in rows), name
    assert {row["message_type"] for row in rows} >= {"text", "location", "button", "sticker"}


def test_a_row_may_have_any_other_field(sandbox: Sandbox) -> None:
    """What `extra` holds goes out in every dialect."""
    contact = sandbox.world.add_contact("27820000001", extra={"vip": 1})
    sandbox.world.add_message(contact, extra={"forwarded": True})
    for dialect in DIALECTS:
        sandbox.dialect = dialect
        assert contacts(sandbox)[0]["vip"] == 1
        assert messages(sandbox, contact.number)[0]["forwarded"] is True


@pytest.fixture(scope="module")
def lively() -> World:
    """A livelier business, four weeks later."""
    world = World(contacts=40, lively=True)
    world.advance(28 * DAY)
    return world


def conversations(world: World) -> list[tuple[Contact, list[Message]]]:
    """Each contact with its messages, oldest first."""
    return [(contact, contact.history(world.now)[::-1]) for contact in world.contacts]


def everything(world: World) -> list[tuple[Contact, Message]]:
    """Each message with its contact."""
    return [(contact, message) for contact, said in conversations(world) for message in said]


def local(contact: Contact, message: Message) -> datetime:
    """When it was for the contact."""
    return message.at + timedelta(hours=contact.utc_offset_h)


def test_a_lively_world_follows_the_schemas() -> None:
    """It is the same API, whatever is said."""
    with Sandbox(World(contacts=40, lively=True), limited=False) as sandbox:
        conforms(ask(sandbox, action="contacts").json(), "ContactsResponse")
        for contact in sandbox.world.contacts:
            answer = ask(sandbox, whatsappNumber=contact.number, limit=100)
            conforms(answer.json(), "ConversationResponse")


def test_the_same_seed_is_the_same_lively_world_in_any_steps() -> None:
    """A month in one step or in many; another seed is another one."""
    worlds = []
    for seed, steps in [(7, 1), (7, 90), (8, 1)]:
        world = World(seed=seed, lively=True)
        assert all(contact.messages for contact in world.contacts)
        for _ in range(steps):
            world.advance(30 * DAY / steps)
        worlds.append(
            [
                (contact.bot_status, message.id, message.at, message.status, message.reactions)
                for contact, message in everything(world)
            ]
        )
    assert worlds[0] == worlds[1] != worlds[2]


def test_the_bot_answers_at_once_and_the_team_in_its_hours(lively: World) -> None:
    """By day and night the one, from Monday to Friday and 8 to 17 in South Africa the other."""
    waits: dict[str, list[timedelta]] = {"bot": [], "human": []}
    for _, said in conversations(lively):
        for before, message in pairwise(said):
            if message.sender.startswith(("bot", "human")) and before.sender.startswith("user"):
                waits[message.sender.partition("-")[0]].append(message.at - before.at)
    assert sorted(waits["bot"])[len(waits["bot"]) // 2] < timedelta(seconds=10)
    assert sorted(waits["human"])[len(waits["human"]) // 2] > timedelta(minutes=2)
    first_attempts = [m.at + timedelta(hours=2) for _, m in everything(lively) if m.assignee]
    assert len(first_attempts) > 100
    at_work = [m.at + timedelta(hours=2) for _, m in everything(lively) if "human" in m.sender]
    assert all(at.weekday() < 5 and 8 <= at.hour <= 17 for at in at_work)
    assert {local(c, m).hour for c, m in everything(lively) if "bot" in m.sender} >= {0, 6, 12, 18}


def test_customers_write_less_at_night_and_on_weekends(lively: World) -> None:
    """In their own time: some live in another part of the world."""
    times = [local(c, m) for c, m in everything(lively) if m.sender.startswith("user")]
    night = sum(at.hour < 6 for at in times)
    weekend = sum(at.weekday() >= 5 for at in times)
    assert 0 < night < 0.05 * len(times)
    assert 0 < weekend < 0.2 * len(times)
    assert {contact.utc_offset_h for contact in lively.contacts} == {2, -3}


def test_some_are_handed_over_and_some_of_these_never_answered(lively: World) -> None:
    """While the team has a conversation its bot is paused."""
    paused = set()
    waiting = 0
    for day in range(14):
        lively.advance(DAY if day else timedelta(0))
        paused |= {contact.id for contact in lively.contacts if contact.bot_status == "paused"}
    for _, said in conversations(lively):
        for message, after in pairwise(said):
            late = after.at - message.at > 2 * DAY
            waiting += late and message.content.endswith("handed over to the team")
    assert 5 <= len(paused) <= len(lively.contacts)
    assert waiting >= 5


def test_a_lively_world_has_everything_that_a_demo_shows(lively: World) -> None:
    """Bursts, failed deliveries that are repeated, voice notes, pictures, reactions, returns."""
    said = [message for _, message in everything(lively)]
    assert {message.media_type for message in said} == {
        *("image", "audio", "document", "interactive"),
        None,
    }
    transcribed = [m.voice_transcription for m in said if m.media_type == "audio"]
    assert None in transcribed
    assert any(transcribed)
    assert sum(bool(message.reactions) for message in said) > 50
    repeated = bursts = returns = 0
    for _, conversation in conversations(lively):
        for before, message in pairwise(conversation):
            pause = message.at - before.at
            repeated += before.status == "failed" and before.content == message.content
            both_ask = before.sender == message.sender == "user-whatsapp"
            bursts += both_ask and pause < timedelta(minutes=1)
            returns += DAY < pause < 7 * DAY and "again" in message.content
    assert min(repeated, bursts, returns) > 5


def test_a_contact_that_was_added_by_hand_stays_silent_in_a_lively_world() -> None:
    """So that a test knows what is said."""
    world = World(contacts=0, lively=True)
    contact = world.add_contact("27820000001", created_at=datetime(2026, 1, 1, tzinfo=timezone.utc))
    world.advance(30 * DAY)
    assert contact.messages == []
