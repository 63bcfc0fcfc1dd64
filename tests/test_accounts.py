"""Accounts whose API contradicts itself: nothing doubled, no false alarm, no endless price."""

import itertools
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from flowiq_source.errors import CredentialsError
from flowiq_source.sandbox import Contact, Reply, Sandbox, World, documented, reply_json
from flowiq_source.sandbox.actions import ACTIONS
from flowiq_source.settings import pages_of
from tests.support.history import DAY, HOUR, write
from tests.support.ledger import Ledger
from tests.support.warehouse import Warehouse

NO_IDS, IDS = "reference", "seed"


@pytest.fixture
def ledger(sandbox: Sandbox) -> Ledger:
    """An empty ledger of the sandbox."""
    return Ledger(sandbox)


def changed(
    sandbox: Sandbox, action: str, change: Callable[[dict[str, Any]], object]
) -> Callable[[dict[str, str]], Reply | None]:
    """The sandbox's own answers, changed."""

    def intercept(params: dict[str, str]) -> Reply | None:
        if params["action"] != action:
            return None
        reply = ACTIONS[action](sandbox.world, sandbox.dialect, params)
        body = json.loads(reply.body)
        change(body)
        return reply_json(reply.status, body)

    return intercept


def is_settled(ledger: Ledger) -> None:
    """A run with nothing new costs one request for each conversation and writes nothing."""
    run = ledger.run()
    assert (run.counts["failed"], run.counts["unlisted"], run.counts["vanished"]) == (0, 0, 0)
    assert (ledger.asked, ledger.written) == (len(ledger.conversations), 0)


@pytest.mark.parametrize("dialect", [NO_IDS, IDS])
def test_a_number_that_is_rewritten_doubles_nothing(ledger: Ledger, dialect: str) -> None:
    """The contact is the same, and so are its messages."""
    ledger.sandbox.dialect = dialect
    contact = ledger.sandbox.world.add_contact("551187654321")
    write(ledger.sandbox, contact, 150)
    ledger.run()
    contact.number = "5511987654321"
    ledger.run()
    ledger.run(full_refresh=True)
    assert len(ledger.messages) == 150
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("dialect", [NO_IDS, IDS])
def test_what_is_edited_is_the_same_row(ledger: Ledger, alice: Contact, dialect: str) -> None:
    """A text, a media URL that is filled in, a signature in the path of one."""
    ledger.sandbox.dialect = dialect
    write(ledger.sandbox, alice, 120)
    ledger.run()
    a, b, c = alice.messages[-3:]
    a.content = "edited"
    b.media_type, b.media_url = "image", "https://m.example.com/b.jpg"
    c.media_url = "https://m.example.com/signature-1/c.jpg"
    ledger.run()
    c.media_url = "https://m.example.com/signature-2/c.jpg"
    ledger.run()
    assert len(ledger.messages) == 120
    assert ledger.texts() == ledger.truth()
    assert {row.get("media_url") for row in ledger.current()} >= {b.media_url, c.media_url}


def test_ids_that_are_unique_in_a_conversation_only(ledger: Ledger) -> None:
    """Two contacts with messages 1 to 10 have twenty."""
    ledger.sandbox.dialect = IDS
    for number in ("27820000001", "27820000002"):
        contact = ledger.sandbox.world.add_contact(number)
        write(ledger.sandbox, contact, 10)
        for n, message in enumerate(contact.messages):
            message.id = str(n + 1)
    ledger.run()
    assert len(ledger.messages) == 20
    assert ledger.texts() == ledger.truth()
    is_settled(ledger)


SAYING_NOTHING: dict[str, Callable[[int], Any]] = {
    "the same word": lambda _: "undefined",
    "the same number": lambda _: 0,
    "the place on the page": str,
    "one of two": lambda n: str(n % 2),
}


@pytest.mark.parametrize("ids", SAYING_NOTHING)
@pytest.mark.parametrize("rows", [2, 60, 250, 700])
def test_ids_that_do_not_tell_messages_apart_are_none(
    ledger: Ledger, alice: Contact, ids: str, rows: int
) -> None:
    """All of them are there, once, in every run; also where they are read in parts."""
    ledger.sandbox.dialect = IDS
    write(ledger.sandbox, alice, rows)

    def number(body: dict[str, Any]) -> None:
        for n, message in enumerate(body["messages"]):
            message["id"] = SAYING_NOTHING[ids](n)

    ledger.sandbox.intercept = changed(ledger.sandbox, "conversation-messages", number)
    for news in (0, 1, 1):
        for n in range(news):
            ledger.sandbox.world.advance(HOUR)
            ledger.sandbox.world.add_message(alice, content=f"news {n}")
        run = ledger.run(part_rows=300)
        assert run.counts["complete"] == 1
        assert ledger.texts() == ledger.truth()
    assert ledger.conversations[alice.id]["surplus"] == 0
    is_settled(ledger)


@pytest.mark.parametrize("dialects", [(NO_IDS, IDS), (IDS, NO_IDS)])
@pytest.mark.parametrize("rows", [3, 150, 650])
@pytest.mark.parametrize("news", [0, 1])
def test_an_account_that_changes_to_other_ids_doubles_nothing(
    ledger: Ledger, alice: Contact, dialects: tuple[str, str], rows: int, news: int
) -> None:
    """Each conversation is read to its beginning once; and once more when it changes back."""
    write(ledger.sandbox, alice, rows)
    for dialect in (*dialects, dialects[0], "mixed"):
        ledger.sandbox.dialect = dialect
        for n in range(news):
            ledger.sandbox.world.advance(HOUR)
            ledger.sandbox.world.add_message(alice, content=f"news {n}")
        assert ledger.run(part_rows=300).counts["complete"] == 1
        assert ledger.texts() == ledger.truth()
        is_settled(ledger)


def without_fractions(message: dict[str, Any]) -> None:
    """Times to the second."""
    message["created_at"] = message["created_at"][:19] + "Z"


def by_other_words(message: dict[str, Any]) -> None:
    """Senders by other names."""
    message["sender_type"] = message["sender_type"].replace("user-whatsapp", "customer")


@pytest.mark.parametrize("write_it", [without_fractions, by_other_words])
@pytest.mark.parametrize("rows", [3, 150, 650])
def test_an_api_that_writes_times_or_senders_otherwise_doubles_nothing(
    ledger: Ledger, alice: Contact, write_it: Callable[[dict[str, Any]], None], rows: int
) -> None:
    """Where ids are computed of them: each conversation is read to its beginning once."""
    ledger.sandbox.world.now = ledger.sandbox.world.now.replace(microsecond=345_000)
    write(ledger.sandbox, alice, rows)
    ledger.run(part_rows=300)
    ledger.sandbox.intercept = changed(
        ledger.sandbox,
        "conversation-messages",
        lambda body: list(map(write_it, body["messages"])),
    )
    for n in range(2):
        ledger.sandbox.world.advance(HOUR)
        ledger.sandbox.world.add_message(alice, content=f"news {n}")
        assert ledger.run(part_rows=300).counts["complete"] == 1
        assert ledger.asked <= (2 + rows // 100 * 2 if n == 0 else 2)
        assert len(ledger.current()) == rows + n + 1
    is_settled(ledger)


def other_ids(world: World) -> None:
    """Those of an account that was moved."""
    for n, contact in enumerate(world.contacts):
        contact.id = f"moved-{n}"


@pytest.mark.parametrize("way", [("overview", IDS), (NO_IDS, "overview"), (IDS, IDS)], ids=str)
@pytest.mark.parametrize("part_rows", [10_000, 100])
def test_contacts_that_get_other_ids_double_nothing(
    ledger: Ledger, way: tuple[str, str], part_rows: int
) -> None:
    """They have their numbers and their messages; that they have others is no fault."""
    for n, rows in enumerate([250, 3, 3, 3, 0]):
        contact = ledger.sandbox.world.add_contact(f"278200000{n:02d}")
        write(ledger.sandbox, contact, rows)
    ledger.sandbox.dialect = way[0]
    ledger.run()
    ledger.sandbox.dialect = way[1]
    other_ids(ledger.sandbox.world)
    for _ in range(2):
        run = ledger.run(part_rows=part_rows)
        assert (run.counts["complete"] + run.counts["quiet"], run.is_complete) == (5, True)
        assert ledger.texts() == ledger.truth()
        assert sum(row["status"] == "missing" for row in ledger.conversations.values()) == 5


def test_contacts_that_get_their_old_ids_back_double_nothing(ledger: Ledger) -> None:
    """By their ids, by their numbers, and by their ids again."""
    numbered(ledger.sandbox, 5)
    for dialect in (IDS, "overview", IDS, "overview"):
        ledger.sandbox.dialect = dialect
        assert ledger.run().is_complete
        assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("how", ["sync", "run"])
def test_an_account_that_is_moved_doubles_nothing(
    warehouse: Warehouse, sandbox: Sandbox, how: str
) -> None:
    """In a real warehouse, and verify agrees."""
    from flowiq_source import verify  # noqa: PLC0415

    numbered(sandbox, 5)
    for rows in (5, 10):
        getattr(warehouse, how)(sandbox)
        assert warehouse.one("SELECT count(*) FROM flowiq.messages") == rows
        assert warehouse.one(
            "SELECT count(*) FROM flowiq.messages JOIN flowiq.conversations c "
            "USING (tenant_id, contact_id) WHERE messages.scan >= c.scan"
        ) == len(sandbox.world.contacts)
        assert verify(warehouse.pipeline, warehouse.source(sandbox)).differences == []
        other_ids(sandbox.world)


def test_a_contact_whose_other_id_shows_nothing_keeps_its_messages(ledger: Ledger) -> None:
    """An id that the API itself does not know is no proof."""
    numbered(ledger.sandbox, 5)
    ledger.run()
    before = ledger.truth()
    other_ids(ledger.sandbox.world)
    for contact in ledger.sandbox.world.contacts:
        contact.messages.clear()
    for _ in range(2):
        assert not ledger.run().is_complete
        assert ledger.texts() == before


@pytest.mark.parametrize("rows", [1, 150])
def test_ids_that_begin_to_repeat_are_given_up(ledger: Ledger, alice: Contact, rows: int) -> None:
    """What had one of its own before is not doubled."""
    ledger.sandbox.dialect = IDS
    write(ledger.sandbox, alice, rows)
    ledger.run()
    for n in range(3):
        ledger.sandbox.world.advance(HOUR)
        ledger.sandbox.world.add_message(alice, content=f"news {n}", id="null")
        ledger.run()
        assert ledger.texts() == ledger.truth()
    is_settled(ledger)


@pytest.mark.parametrize("dialect", [NO_IDS, IDS])
@pytest.mark.parametrize("wrong_by", [-1, 1, 1000])
@pytest.mark.parametrize("rows", [0, 99, 100, 250])
def test_a_count_that_never_comes_true_is_known_in_the_end(
    ledger: Ledger, alice: Contact, dialect: str, wrong_by: int, rows: int
) -> None:
    """Complete at once; one request later; the surplus is noted."""
    if rows + wrong_by < 0:
        pytest.skip("no count is below zero")
    ledger.sandbox.dialect = dialect
    write(ledger.sandbox, alice, rows)

    def miscount(body: dict[str, Any]) -> None:
        body["pagination"]["totalMessages"] += wrong_by

    ledger.sandbox.intercept = changed(ledger.sandbox, "conversation-messages", miscount)
    assert ledger.run().counts["complete"] == 1
    assert ledger.conversations[alice.id]["surplus"] == wrong_by
    assert ledger.texts() == ledger.truth()
    is_settled(ledger)
    ledger.sandbox.world.add_message(alice, ledger.sandbox.world.now + HOUR, content="news")
    ledger.sandbox.world.advance(2 * HOUR)
    assert ledger.run().counts["complete"] == 1
    assert ledger.texts() == ledger.truth()
    assert ledger.asked <= 2
    is_settled(ledger)


@pytest.mark.parametrize("wrong_by", [1, 1000])
def test_pages_that_the_count_alone_promises_are_empty(
    ledger: Ledger, alice: Contact, wrong_by: int
) -> None:
    """The first empty page is the end."""
    write(ledger.sandbox, alice, 250)

    def promise(body: dict[str, Any]) -> None:
        said = body["pagination"]
        said["totalMessages"] += wrong_by
        said["totalPages"] = -(-said["totalMessages"] // said["messagesPerPage"])
        said["hasNextPage"] = said["currentPage"] < said["totalPages"]

    ledger.sandbox.intercept = changed(ledger.sandbox, "conversation-messages", promise)
    assert ledger.run().counts["complete"] == 1
    assert ledger.asked <= 2 * (250 // 97 + 2)
    assert ledger.texts() == ledger.truth()
    is_settled(ledger)


SAID: dict[str, tuple[str, ...]] = {
    "everything": ("currentPage", "totalPages", "total", "hasNextPage", "messagesPerPage"),
    "the count": ("totalMessages", "totalContacts"),
    "whether a page follows": ("hasNextPage",),
    "nothing": (),
}


def stingy(sandbox: Sandbox, most: int, said: str, **lies: Any) -> Callable[..., Reply | None]:
    """At most so many rows a page, whatever is asked for, and no more said of the whole."""

    def intercept(params: dict[str, str]) -> Reply | None:
        limit = min(most, int(params.get("limit", "0")))
        reply = sandbox.usual_answer(params | {"limit": str(limit)})
        body = json.loads(reply.body)
        pagination = body.get("pagination", {})
        body["pagination"] = {
            name: value for name, value in pagination.items() if name.startswith(SAID[said])
        } | lies
        return reply_json(reply.status, body)

    return intercept


@pytest.mark.parametrize("most", [10, 50, 75])
@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("rows", [120, 150])
def test_fewer_rows_a_page_than_were_asked_for_hide_none(
    ledger: Ledger, alice: Contact, most: int, said: str, rows: int
) -> None:
    """Neither messages nor contacts."""
    for n in range(rows - 1):
        ledger.sandbox.world.add_contact(f"27820001{n:03d}")
    write(ledger.sandbox, alice, rows)
    ledger.sandbox.intercept = stingy(ledger.sandbox, most, said)
    for _ in range(2):
        run = ledger.run()
        assert (run.counts["complete"], run.counts["unlisted"]) == (rows, 0)
        assert ledger.texts() == ledger.truth()
    assert ledger.conversations[alice.id]["surplus"] == 0


@pytest.mark.parametrize("most", [50, 100])
@pytest.mark.parametrize(
    "lie",
    [{"hasNextPage": False}, {"totalPages": 1}, {"totalPages": 2, "messagesPerPage": 100}],
    ids=str,
)
def test_the_last_page_is_the_last_by_the_count(
    ledger: Ledger, alice: Contact, most: int, lie: dict[str, Any]
) -> None:
    """A full page is not, whatever else is said of it."""
    for n in range(129):
        ledger.sandbox.world.add_contact(f"27820001{n:03d}")
    write(ledger.sandbox, alice, 130)
    ledger.sandbox.intercept = stingy(ledger.sandbox, most, "the count", **lie)
    run = ledger.run()
    assert (run.counts["complete"], run.counts["wasted"]) == (130, 0)
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("status", [400, 404])
def test_an_error_behind_the_last_page_is_the_end(
    ledger: Ledger, alice: Contact, status: int
) -> None:
    """Where nothing says which page is the last."""
    for n in range(99):
        ledger.sandbox.world.add_contact(f"27820001{n:03d}")
    write(ledger.sandbox, alice, 100)
    usual = stingy(ledger.sandbox, 100, "nothing")
    nothing = Reply(status, b'{"success": false, "error": "No such page"}')
    ledger.sandbox.intercept = lambda params: nothing if params["page"] == "2" else usual(params)
    run = ledger.run()
    assert (run.counts["complete"], run.counts["unlisted"]) == (100, 0)
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("dialect", [NO_IDS, IDS])
@pytest.mark.parametrize("size", [2, 30, 150])
@pytest.mark.parametrize("seed", range(3))
def test_equal_times_in_another_order_with_every_request_are_no_alarm(
    ledger: Ledger, alice: Contact, dialect: str, size: int, seed: int
) -> None:
    """Each row once, in every run."""
    random = Random(seed)
    ledger.sandbox.dialect = dialect
    world = ledger.sandbox.world
    write(ledger.sandbox, alice, 290)
    history = alice.history(world.now)
    for message in history[98 : 98 + size]:
        message.at = history[98].at

    def shuffle(params: dict[str, str]) -> None:
        random.shuffle(alice.messages)

    ledger.sandbox.intercept = shuffle
    for _ in range(3):
        run = ledger.run()
        assert run.counts["failed"] == 0
        assert ledger.texts() == ledger.truth()
        assert len(ledger.messages) == 290


def test_a_contact_that_is_listed_twice_is_one(ledger: Ledger) -> None:
    """No alarm, no second reading."""
    for n in range(30):
        write(ledger.sandbox, ledger.sandbox.world.add_contact(f"278200000{n:02d}"), 2)

    def double(body: dict[str, Any]) -> None:
        body["contacts"].append(body["contacts"][3])
        body["pagination"]["totalContacts"] += 1

    ledger.sandbox.intercept = changed(ledger.sandbox, "contacts", double)
    run = ledger.run()
    assert (run.counts["complete"], run.counts["unlisted"]) == (30, 0)
    is_settled(ledger)
    # Nothing is missing from the list, so who is not on it may be gone.
    ledger.sandbox.world.delete_contact(ledger.sandbox.world.contacts[9])
    assert ledger.run().counts["doubtful"] == 1
    assert ledger.run().counts["missing"] == 1


@pytest.mark.parametrize("says", ["everything", "nothing"])
def test_a_reading_that_fails_doubles_nothing(ledger: Ledger, alice: Contact, says: str) -> None:
    """A message arrives between the first and the second page, and there is no third."""
    write(ledger.sandbox, alice, 250)
    world, usual = ledger.sandbox.world, stingy(ledger.sandbox, 100, says)

    def act(params: dict[str, str]) -> Reply | None:
        page = int(params["page"]) if params["action"] == "conversation-messages" else 0
        if page == 2 and len(alice.messages) == 250:
            world.add_message(alice, content="news")
        return Reply(500, b"{}") if page == 3 else usual(params)

    ledger.sandbox.intercept = act
    assert ledger.run().counts["failed"] == 1
    assert not ledger.texts() - ledger.truth()
    ledger.sandbox.intercept = usual
    ledger.run()
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("word", ["undefined", 0])
def test_a_word_for_nothing_is_nobodys_id(ledger: Ledger, word: Any) -> None:
    """Contacts that all have it are told apart by their numbers."""
    numbered(ledger.sandbox, 5)

    def name(body: dict[str, Any]) -> None:
        for contact in body["contacts"]:
            contact["id"] = word

    ledger.sandbox.intercept = changed(ledger.sandbox, "contacts", name)
    assert ledger.run().counts["complete"] == 5
    assert ledger.texts() == ledger.truth()
    is_settled(ledger)


@pytest.mark.parametrize("wrong_by", [-1, 1, 1000])
def test_a_count_of_contacts_that_never_comes_true_costs_one_list(
    ledger: Ledger, wrong_by: int
) -> None:
    """From the second run on; a contact more is found, and one that is gone is missed."""
    numbered(ledger.sandbox, 130)

    def miscount(body: dict[str, Any]) -> None:
        body["pagination"]["totalContacts"] += wrong_by
        # So slow that all pages that are promised are asked for before one is there.
        time.sleep(0.5)

    ledger.sandbox.intercept = changed(ledger.sandbox, "contacts", miscount)
    for cost in (2 * pages_of(130 + wrong_by), 2, 2):
        assert ledger.run().is_complete
        assert lookups(ledger) == cost
    write(ledger.sandbox, ledger.sandbox.world.add_contact("27830000000"), 3)
    assert (ledger.run().is_complete, lookups(ledger)) == (True, 2)
    assert ledger.texts() == ledger.truth()
    ledger.sandbox.world.delete_contact(ledger.sandbox.world.contacts[9])
    assert ledger.run().counts["doubtful"] == 1


@pytest.mark.parametrize("how", ["sync", "run"])
def test_what_contacts_are_counted_too_many_is_remembered(
    warehouse: Warehouse, sandbox: Sandbox, how: str
) -> None:
    """In a real warehouse."""
    numbered(sandbox, 3)

    def miscount(body: dict[str, Any]) -> None:
        body["pagination"]["totalContacts"] += 1

    sandbox.intercept = changed(sandbox, "contacts", miscount)
    asked = []
    for _ in range(2):
        getattr(warehouse, how)(sandbox)
        asked.append(len(sandbox.requests))
    assert asked == [2 + 3, 1 + 3]


@pytest.mark.parametrize(("listed", "same"), [(5, 5), (30, 2)])
def test_contacts_with_the_id_of_another_are_said_so(
    ledger: Ledger, listed: int, same: int, all_logs: Callable[[], str]
) -> None:
    """If they are many, the run is not complete."""
    numbered(ledger.sandbox, listed)

    def name(body: dict[str, Any]) -> None:
        for contact in body["contacts"][:same]:
            contact["id"] = "7"

    ledger.sandbox.intercept = changed(ledger.sandbox, "contacts", name)
    for _ in range(2):
        run = ledger.run()
        assert run.is_complete is (same == 2)
        assert run.counts["complete"] == listed - same + 1
    assert f"{same - 1} contacts have the id of another" in all_logs()


def test_one_number_under_two_names_is_one_contact(ledger: Ledger) -> None:
    """Where the number is all the id that there is."""
    ledger.sandbox.dialect = "overview"
    world = ledger.sandbox.world
    write(ledger.sandbox, world.add_contact("27820000001", full_name="Ann"), 5)
    world.add_contact("27820000001", full_name="Bob", id="other")
    world.add_contact("27820000002")
    run = ledger.run()
    assert (run.counts["complete"], run.counts["unlisted"]) == (2, 0)
    assert len(ledger.messages) == 5


@pytest.mark.parametrize("told", ["0001-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "inbound"])
def test_a_list_whose_times_are_not_those_of_the_last_messages_hides_none(
    ledger: Ledger, told: str
) -> None:
    """A time that never moves, or is that of the last message of a customer."""
    ledger.sandbox.dialect = "overview"
    world = ledger.sandbox.world
    for n in range(10):
        write(ledger.sandbox, world.add_contact(f"278200000{n:02d}"), 3)
        at = world.now + timedelta(seconds=9)
        world.add_message(world.contacts[n], at, sender="human-whatsapp", content="answer")

    def tell(body: dict[str, Any]) -> None:
        for contact in body["contacts"]:
            history = world.find(contact["whatsapp_number"]).history(world.now)  # type: ignore[union-attr]
            inbound = next(m for m in history if m.sender == "user-whatsapp")
            contact["last_message_time"] = told if told != "inbound" else inbound.at.isoformat()

    ledger.sandbox.intercept = changed(ledger.sandbox, "contacts", tell)
    for n in range(3):
        world.advance(30 * DAY)
        world.add_message(world.contacts[n], sender="human-whatsapp", content=f"news {n}")
        assert ledger.run().counts["complete"] == 10
        assert ledger.texts() == ledger.truth()


def test_a_list_of_contacts_that_moves_while_it_is_read(ledger: Ledger) -> None:
    """Whoever writes comes first: all passes together show everybody."""
    random = Random(5)
    world = ledger.sandbox.world
    for n in range(350):
        world.add_contact(f"27820000{n:03d}")

    def move(params: dict[str, str]) -> None:
        if params["action"] == "contacts":
            contacts = world._planned
            contacts.insert(0, contacts.pop(random.randrange(len(contacts))))

    ledger.sandbox.intercept = move
    for _ in range(5):
        run = ledger.run()
        assert (run.counts["complete"], run.counts["unlisted"]) == (350, 0)


@pytest.mark.parametrize("dialect", [NO_IDS, IDS])
def test_a_long_conversation_is_read_in_parts(ledger: Ledger, alice: Contact, dialect: str) -> None:
    """It breaks off after two, goes on there, and costs one page from then on."""
    ledger.sandbox.dialect = dialect
    write(ledger.sandbox, alice, 1234, every=4 * HOUR)
    ledger.run(part_rows=300, parts=2)
    assert ledger.conversations[alice.id]["status"] == "failed"
    read = len(ledger.messages)
    # Without ids, a part ends before the page that may cut equal rows.
    assert 400 <= read <= 700
    run = ledger.run(part_rows=300)
    assert ledger.asked <= -(-(1234 - read) // 100) + 4
    assert (run.counts["complete"], ledger.texts()) == (1, ledger.truth())
    assert max(one.rows for one in ledger.results) <= 400
    is_settled(ledger)
    ledger.sandbox.world.advance(HOUR)
    ledger.sandbox.world.add_message(alice, content="news")
    ledger.run(part_rows=300)
    assert ledger.asked == 1
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("dialect", [NO_IDS, IDS])
def test_a_long_conversation_that_comes_newest_first_is_read_once(
    ledger: Ledger, alice: Contact, dialect: str
) -> None:
    """Where the API does not know `ascending`; a message more costs one page."""
    ledger.sandbox.dialect = dialect
    write(ledger.sandbox, alice, 1234, every=4 * HOUR)
    ledger.sandbox.intercept = lambda params: ledger.sandbox.usual_answer(
        params | {"ascending": "false"}
    )
    assert ledger.run(part_rows=300).counts["complete"] == 1
    is_settled(ledger)
    ledger.sandbox.world.advance(HOUR)
    ledger.sandbox.world.add_message(alice, content="news")
    ledger.run(part_rows=300)
    assert ledger.asked == 1
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("dialect", [NO_IDS, IDS])
@pytest.mark.parametrize("page", [2, 4, 7])
@pytest.mark.parametrize("change", ["arrives", "goes", "both"])
def test_a_long_conversation_changes_while_it_is_read(
    ledger: Ledger, alice: Contact, dialect: str, page: int, change: str
) -> None:
    """In the end it is what the API shows."""
    ledger.sandbox.dialect = dialect
    world = ledger.sandbox.world
    write(ledger.sandbox, alice, 950)
    pending = [page]

    def act(params: dict[str, str]) -> None:
        if pending and params.get("ascending") == "true" and params["page"] == str(pending[0]):
            pending.clear()
            if change != "goes":
                world.add_message(alice, content="arrived")
            if change != "arrives":
                world.delete_message(alice, alice.messages[5])
                world.delete_message(alice, alice.messages[70])

    ledger.sandbox.intercept = act
    run = ledger.run(part_rows=300)
    assert run.counts["failed"] == 0
    ledger.run(part_rows=300)
    assert ledger.texts() == ledger.truth()
    is_settled(ledger)


def test_a_conversation_that_cannot_be_mapped_fails_alone(
    ledger: Ledger, all_logs: Callable[[], str]
) -> None:
    """The log says where, and quotes nothing."""
    for n in range(5):
        write(ledger.sandbox, ledger.sandbox.world.add_contact(f"2782000000{n}"), 2)
    bad = ledger.sandbox.world.contacts[2].id

    def refuse(rows: Any, origin: Any, extras: Any, **more: Any) -> Any:
        from flowiq_source.rows.arrow import map_page  # noqa: PLC0415

        if origin.contact_id == bad:
            raise TypeError("a secret text")
        return map_page(rows, origin, extras, **more)

    run = ledger.run(map_message=refuse)
    assert (run.counts["complete"], run.counts["failed"]) == (4, 1)
    assert "TypeError in test_accounts.py" in ledger.conversations[bad]["error"]
    assert "secret" not in all_logs()
    assert ledger.run().counts["complete"] == 5


ID_OF_9_MB = [(b'"id":', b'"id": "%s", "x":' % (b"7" * 9_000_000))]
ODD_VALUES = [
    (b'"message 0"', b'"message \xff"'),
    (b'"whatsapp_id":', b'"deep": %s, "whatsapp_id":' % (b"[" * 990 + b"]" * 990)),
    (b'"totalMessages": 3', b'"totalMessages": %d' % 2**63),
    (b'"message":', b'"read_by": {"27831234567": 1}, "27831234567": 1, "message":'),
]
ODD_HEADERS = {
    "Retry-After": "\xb2",
    "X-RateLimit-Remaining": "9" * 5000,
    "X-RateLimit-Limit": "9" * 400,
    "Date": "Fri, 01 Jan 99999 00:00:00 GMT",
}


@pytest.mark.parametrize("odd", [ID_OF_9_MB, ODD_VALUES], ids=["an id of 9 MB", "values"])
@pytest.mark.parametrize("how", ["sync", "run"])
def test_nothing_that_the_api_says_ends_a_run(
    warehouse: Warehouse, sandbox: Sandbox, odd: list[tuple[bytes, bytes]], how: str
) -> None:
    """In a real warehouse, of one of two contacts, before a good run and after it."""
    for number in ("27820000001", "27820000002"):
        write(sandbox, sandbox.world.add_contact(number), 3)
    said = set()

    def answer(params: dict[str, str]) -> Reply:
        usual = sandbox.usual_answer(params)
        body = usual.body
        for usually, instead in odd if params.get("contactId") != "2" else ():
            if usually in body:
                said.add(usually)
            body = body.replace(usually, instead, 1)
        return Reply(usual.status, body, usual.headers | ODD_HEADERS)

    for intercept in (answer, None, answer):
        sandbox.intercept = intercept
        getattr(warehouse, how)(sandbox)
        assert warehouse.one(
            "SELECT count(*) FROM flowiq.messages m JOIN flowiq.conversations c "
            "USING (tenant_id, contact_id) WHERE m.scan >= c.scan AND c.status = 'complete'"
        ) == sum(len(contact.messages) for contact in sandbox.world.contacts)
    assert len(said) == len(odd)
    columns = warehouse.query("SELECT column_name FROM information_schema.columns")
    assert not [name for (name,) in columns if "2783" in name]


def refused_to(sandbox: Sandbox, contacts: Sequence[Contact]) -> None:
    """The token may not read these conversations."""
    refused = {contact.id for contact in contacts} | {contact.number for contact in contacts}
    answer = Reply(403, b'{"success": false, "error": "Forbidden"}')
    sandbox.intercept = lambda params: (
        answer if refused & {params.get("contactId"), params.get("whatsappNumber")} else None
    )


@pytest.mark.parametrize("at", [0, 7, 29])
def test_one_conversation_that_is_refused_ends_no_run(ledger: Ledger, at: int) -> None:
    """The list of contacts can be read, so the token is right; one request tells."""
    numbered(ledger.sandbox, 30)
    contacts = ledger.sandbox.world.contacts
    refused_to(ledger.sandbox, [contacts[at]])
    for _ in range(2):
        run = ledger.run()
        assert (run.counts["complete"], run.counts["failed"]) == (29, 1)
        assert run.counts["requests"] == 1 + 30 + 1
    assert "HTTP 403" in ledger.conversations[contacts[at].id]["error"]


def test_a_token_that_may_read_no_conversation_ends_the_run(ledger: Ledger) -> None:
    """Before much is spent."""
    numbered(ledger.sandbox, 90)
    refused_to(ledger.sandbox, ledger.sandbox.world.contacts)
    with pytest.raises(CredentialsError, match="HTTP 403"):
        ledger.run()
    assert ledger.asked < 40


class Broken:
    """A client that raises what nobody foresaw for one conversation and one page of contacts."""

    quickest_s = 0.0

    def __init__(self, client: Any, contact_id: str) -> None:
        self._client, self._contact_id = client, contact_id

    def contacts(self, number: int, *arguments: Any, **more: Any) -> Any:
        """Page 2 fails."""
        if number == 2:
            raise ZeroDivisionError
        return self._client.contacts(number, *arguments, **more)

    def messages(self, who: dict[str, str], *arguments: Any, **more: Any) -> Any:
        """One conversation fails."""
        if who.get("contactId") == self._contact_id:
            raise TypeError("odd")
        return self._client.messages(who, *arguments, **more)


def test_what_the_client_raises_ends_no_run(ledger: Ledger) -> None:
    """The others are read."""
    for n in range(120):
        ledger.sandbox.world.add_contact(f"27820000{n:03d}")
    bad = ledger.sandbox.world.contacts[2].id
    run = ledger.run(wrap=lambda client: Broken(client, bad))
    assert (run.counts["complete"], run.counts["failed"]) == (99, 1)
    assert run.counts["unlisted"] > 0


@pytest.mark.parametrize("kind", ["contacts", "messages"])
@pytest.mark.parametrize("total", [None, 3, 2**63])
@pytest.mark.parametrize("new_rows", [True, False])
def test_a_list_without_an_end_costs_no_fortune(
    ledger: Ledger,
    alice: Contact,
    kind: str,
    total: int | None,
    new_rows: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run ends, and what is wrong is said."""
    monkeypatch.setattr("flowiq_source.reading.passes.MOST_PAGES", 50)
    action = "contacts" if kind == "contacts" else "conversation-messages"
    numbers = itertools.count()

    def endless(params: dict[str, str]) -> Reply | None:
        if params["action"] != action:
            return None
        rows = [{"id": f"{next(numbers) if new_rows else n}"} for n in range(100)]
        pagination = {"currentPage": int(params["page"]), "hasNextPage": True}
        pagination |= {} if total is None else {f"total{kind.title()}": total}
        return reply_json(200, {"success": True, kind: rows, "pagination": pagination})

    ledger.sandbox.intercept = endless
    run = ledger.run(phone_numbers=None)
    assert run.counts["unlisted" if kind == "contacts" else "failed"] > 0
    listed = [r for r in ledger.sandbox.requests if r["action"] == action]
    assert len(listed) <= 4 * 50 + 20


def test_a_restless_list_keeps_to_the_budget(ledger: Ledger) -> None:
    """It is not read again and again beyond `max_requests`."""
    for n in range(250):
        ledger.sandbox.world.add_contact(f"27820000{n:03d}")

    def hide(body: dict[str, Any]) -> None:
        body["contacts"][:] = body["contacts"][: -1 - body["pagination"]["contactsPerPage"] % 7]

    ledger.sandbox.intercept = changed(ledger.sandbox, "contacts", hide)
    run = ledger.run(max_requests=5)
    assert run.counts["unlisted"] > 0
    assert len(ledger.sandbox.requests) <= 5 + 4


def numbered(sandbox: Sandbox, contacts: int) -> list[str]:
    """The numbers of so many contacts."""
    for n in range(contacts):
        write(sandbox, sandbox.world.add_contact(f"27820000{n:03d}"), 1)
    return [contact.number for contact in sandbox.world.contacts]


def lookups(ledger: Ledger) -> int:
    """The requests of the last run that were no conversation's."""
    return len(ledger.sandbox.requests) - ledger.asked


@pytest.mark.parametrize(
    ("contacts", "wanted", "cost"),
    [(12, 1, 1), (12, 5, 1), (250, 5, 3), (150, 60, 2), (1, 1, 1), (0, 3, 1), (450, 3, 1 + 0)],
)
def test_chosen_numbers_cost_no_more_than_the_list(
    ledger: Ledger, contacts: int, wanted: int, cost: int
) -> None:
    """Or than to ask for each, whichever is less, and one to find out which."""
    numbers = numbered(ledger.sandbox, contacts)
    chosen = (numbers or ["27820000001", "27820000002", "27820000003"])[-wanted:]
    run = ledger.run(phone_numbers=chosen)
    assert run.counts["complete"] == min(contacts, wanted)
    assert lookups(ledger) <= max(
        cost, min(wanted, -(-contacts // 100)) + (contacts > wanted * 100)
    )
    assert len(run.roster.unknown_numbers) == (0 if contacts else 3)


def test_numbers_are_found_however_they_are_written(ledger: Ledger) -> None:
    """By the list and one by one; what the API does not know is said by its place."""
    world = ledger.sandbox.world
    for n, number in enumerate(["27820000001", "27820000002", "ZA.1349000000000001"]):
        write(ledger.sandbox, world.add_contact(number), n + 1)
    chosen = ["+27 82 000-0001", "99", "27820000002@s.whatsapp.net", "ZA.1349000000000001"]
    run = ledger.run(phone_numbers=chosen)
    assert (run.counts["complete"], run.roster.unknown_numbers) == (3, [2])
    for one, rows in [(chosen[0], 1), (chosen[2], 2), (chosen[3], 3)]:
        fresh = Ledger(ledger.sandbox)
        fresh.run(phone_numbers=[one])
        assert (len(fresh.messages), lookups(fresh)) == (rows, 1)


@pytest.mark.parametrize("status", [400, 404, 500])
@pytest.mark.parametrize("others", [0, 250])
def test_a_search_that_fails_ends_no_run(ledger: Ledger, status: int, others: int) -> None:
    """The other numbers are read."""
    numbers = numbered(ledger.sandbox, 2 + others)
    reply = Reply(status, b'{"success": false, "error": "Something"}')
    ledger.sandbox.intercept = lambda params: (
        reply
        if params["action"] == "contacts"
        or (params["action"] == "find-by-phone" and params["phoneNumber"] == numbers[0])
        else None
    )
    run = ledger.run(phone_numbers=numbers[:2])
    assert run.counts["complete"] == 1
    assert bool(run.roster.unknown_numbers) == (status != 500)
    assert bool(run.counts["unlisted"]) == (status == 500)


def test_a_backfill_has_all_of_its_range(ledger: Ledger, alice: Contact) -> None:
    """Though a late message stands where it arrived."""
    write(ledger.sandbox, alice, 360, every=DAY)
    world = ledger.sandbox.world
    history = alice.history(world.now)
    since = history[300].at

    def late(body: dict[str, Any]) -> None:
        if body["pagination"]["currentPage"] == 1:
            body["messages"].insert(97, body["messages"].pop())
            body["messages"][98]["created_at"] = "2020-01-01T00:00:00Z"
            body["messages"][99]["created_at"] = "2020-01-01T00:00:00Z"

    ledger.sandbox.intercept = changed(ledger.sandbox, "conversation-messages", late)
    ledger.run(backfill_from=since)
    assert {m.content for m in history[:301]} <= {r["content"] for r in ledger.messages.values()}


def test_a_backfill_has_all_of_its_range_where_the_oldest_come_first(
    ledger: Ledger, alice: Contact
) -> None:
    """Whatever order is asked for, a page that is older all through is not the last there."""
    write(ledger.sandbox, alice, 360, every=DAY)
    history = alice.history(ledger.sandbox.world.now)
    ledger.sandbox.intercept = lambda params: ledger.sandbox.usual_answer(
        params | {"ascending": "true"}
    )
    ledger.run(backfill_from=history[60].at)
    assert {m.content for m in history[:61]} <= {r["content"] for r in ledger.messages.values()}


def test_a_surplus_is_no_difference(warehouse: Warehouse, sandbox: Sandbox, alice: Contact) -> None:
    """In a real warehouse: complete, one request the next time, and verify agrees."""
    from flowiq_source import verify  # noqa: PLC0415

    write(sandbox, alice, 250)

    def miscount(body: dict[str, Any]) -> None:
        body["pagination"]["totalMessages"] += 7

    sandbox.intercept = changed(sandbox, "conversation-messages", miscount)
    assert warehouse.sync(sandbox).complete
    summary = warehouse.sync(sandbox)
    assert (summary.complete, summary.requests) == (True, 2)
    found = verify(warehouse.pipeline, warehouse.source(sandbox))
    assert (found.conversations, found.differences) == (1, [])
    assert warehouse.one("SELECT surplus FROM flowiq.conversations") == 7


def test_unknown_contact_words_of_another_way(ledger: Ledger, alice: Contact) -> None:
    """An API that does not know `contactId` refuses it, and is asked by number."""
    write(ledger.sandbox, alice, 3)
    ledger.sandbox.intercept = lambda params: (
        documented("no endpoint").reply if "contactId" in params else None
    )
    assert ledger.run().counts["complete"] == 1
    assert ledger.texts() == ledger.truth()
