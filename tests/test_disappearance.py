"""What the API shows no longer: a fault until it is seen twice, and never most of it at once."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from flowiq_source import verify
from flowiq_source.sandbox import Contact, Reply, Sandbox, documented, reply_json
from flowiq_source.times import utc_now
from tests.support.history import DAY, HOUR, message_requests, write
from tests.support.ledger import Ledger
from tests.support.warehouse import Warehouse

Answer = Callable[[dict[str, str]], Reply | None]


@pytest.fixture
def ledger(sandbox: Sandbox) -> Ledger:
    """Ten conversations, well read."""
    return well_read(sandbox, 10)


def well_read(sandbox: Sandbox, contacts: int) -> Ledger:
    """A ledger with everything that so many conversations hold."""
    for n in range(contacts):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 3 + 247 * (n == 0))
    ledger = Ledger(sandbox)
    ledger.run()
    assert ledger.texts() == ledger.truth()
    return ledger


def is_messages(params: dict[str, str]) -> bool:
    """Whether a page of a conversation is asked for."""
    return params["action"] == "conversation-messages"


def nothing_found(params: dict[str, str]) -> Reply | None:
    """404 for every conversation."""
    return documented("no contact").reply if is_messages(params) else None


def listing(kind: str, rows: list[Any], total: int) -> Reply:
    """A page that says that it is the only one."""
    pagination = {"currentPage": 1, "hasNextPage": False, f"total{kind.title()}": total}
    return reply_json(200, {"success": True, kind: rows, "pagination": pagination})


def nothing_there(params: dict[str, str]) -> Reply | None:
    """An empty list for every conversation: the documented answer to a wrong tenant."""
    return listing("messages", [], 0) if is_messages(params) else None


def one_message(params: dict[str, str]) -> Reply | None:
    """One message of each conversation."""
    row = {"message": "only", "created_at": "2026-01-01T00:00:00Z", "sender_type": "system"}
    return listing("messages", [row], 1) if is_messages(params) else None


def no_contacts(params: dict[str, str]) -> Reply | None:
    """A list of contacts that is empty."""
    return listing("contacts", [], 0) if params["action"] == "contacts" else None


def one_contact_of(sandbox: Sandbox, total: int) -> Answer:
    """A list that shows one contact and counts so many."""
    contact = {"id": sandbox.world.contacts[0].id, "whatsapp_id": sandbox.world.contacts[0].number}
    return lambda params: (
        listing("contacts", [contact], total) if params["action"] == "contacts" else None
    )


def no_content(params: dict[str, str]) -> Reply | None:
    """An empty list as HTTP has it."""
    return Reply(204, b"") if is_messages(params) else None


@pytest.mark.parametrize(
    "answer", [nothing_found, nothing_there, no_content, one_message, no_contacts]
)
@pytest.mark.parametrize("times", [1, 3])
def test_most_of_it_at_once_is_a_fault(
    ledger: Ledger, answer: Answer, times: int, all_logs: Callable[[], str]
) -> None:
    """Nothing is gone however often it is seen, a line says why, and the next run asks again."""
    before = set(ledger.truth())
    for _ in range(times):
        ledger.sandbox.intercept = answer
        run = ledger.run()
        assert run.counts["vanished"] >= 8
        assert set(ledger.texts()) >= before
        assert "nothing is taken for gone" in all_logs()
        assert (answer is no_contacts) or ledger.asked >= 10
    ledger.sandbox.intercept = None
    run = ledger.run()
    assert (run.counts["complete"], run.counts["vanished"]) == (10, 0)
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("total", [1, 10])
def test_a_list_with_one_contact_of_ten_is_a_fault(ledger: Ledger, total: int) -> None:
    """Whether or not it counts the others."""
    before = ledger.truth()
    for _ in range(3):
        ledger.sandbox.intercept = one_contact_of(ledger.sandbox, total)
        assert ledger.run().counts["vanished"] == 9
        assert ledger.texts() == before
    ledger.sandbox.intercept = None
    assert ledger.run().counts["complete"] == 10
    assert ledger.texts() == before


@pytest.mark.parametrize("answer", [nothing_found, nothing_there, no_contacts])
def test_what_is_true_is_believed_with_force(ledger: Ledger, answer: Answer) -> None:
    """In the second run that sees it."""
    ledger.sandbox.intercept = answer
    ledger.run()
    run = ledger.run(force=True)
    assert run.counts["vanished"] == 0
    gone = {row["contact_id"] for row in ledger.messages.values()} - {
        row["contact_id"] for row in ledger.current()
    }
    assert len(gone) >= 9


def test_one_of_twenty_is_doubtful_and_then_gone(sandbox: Sandbox) -> None:
    """A message that is gone with it is gone in the second run."""
    ledger = well_read(sandbox, 20)
    lost = sandbox.world.contacts[7]
    sandbox.world.delete_contact(lost)
    run = ledger.run()
    assert (run.counts["doubtful"], run.counts["missing"], run.counts["vanished"]) == (1, 0, 0)
    assert ledger.conversations[lost.id]["status"] == "doubtful"
    assert sum(row["contact_id"] == lost.id for row in ledger.current()) == 3
    run = ledger.run()
    assert (run.counts["doubtful"], run.counts["missing"]) == (0, 1)
    assert ledger.conversations[lost.id]["status"] == "missing"
    assert ledger.texts() == ledger.truth()
    assert ledger.run().counts["missing"] == 0


def test_a_contact_that_comes_back_is_read_at_once(sandbox: Sandbox) -> None:
    """All of it is there again."""
    ledger = well_read(sandbox, 20)
    lost = sandbox.world.contacts[7]
    sandbox.world.delete_contact(lost)
    for _ in range(3):
        ledger.run()
    sandbox.world._planned.append(lost)
    ledger.run()
    assert ledger.conversations[lost.id]["status"] == "complete"
    assert ledger.texts() == ledger.truth()


def test_a_conversation_that_is_listed_and_missing_is_asked_for_when_it_shows_life(
    sandbox: Sandbox,
) -> None:
    """Else once a week."""
    ledger = well_read(sandbox, 20)
    quiet, unread = sandbox.world.contacts[3:5]
    for contact in (quiet, unread):
        sandbox.world.add_message(contact, sender="bot-whatsapp")
    lost = {quiet.id, quiet.number, unread.id, unread.number}
    sandbox.intercept = lambda params: (
        nothing_found(params)
        if lost & {params.get("contactId"), params.get("whatsappNumber")}
        else None
    )
    ledger.run()
    ledger.run()
    assert {ledger.conversations[c.id]["status"] for c in (quiet, unread)} == {"missing"}
    sandbox.world.advance(HOUR)
    sandbox.world.add_message(unread)
    sandbox.intercept = None
    ledger.run()
    assert ledger.conversations[unread.id]["status"] == "complete"
    assert ledger.conversations[quiet.id]["status"] == "missing"
    ledger.run(now=lambda: utc_now() + 8 * DAY)
    assert ledger.texts() == ledger.truth()


def test_a_contact_that_the_list_counts_and_does_not_show_is_never_gone(sandbox: Sandbox) -> None:
    """It stays doubtful as long as the count speaks for it."""
    ledger = well_read(sandbox, 20)
    before = ledger.truth()
    sandbox.intercept = lambda params: (
        hide_one(sandbox, params) if params["action"] == "contacts" else None
    )
    for _ in range(3):
        run = ledger.run()
        assert (run.counts["doubtful"], run.counts["missing"]) == (1, 0)
        assert ledger.texts() == before


def hide_one(sandbox: Sandbox, params: dict[str, str]) -> Reply:
    """The list without its last contact."""
    rows = [{"id": c.id, "whatsapp_id": c.number} for c in sandbox.world.contacts]
    return listing("contacts", rows[:-1], len(rows))


def test_a_404_by_id_is_asked_for_by_number(ledger: Ledger) -> None:
    """And once that has worked, numbers come first: a request is money."""
    ledger.sandbox.intercept = lambda params: (
        nothing_found(params) if "contactId" in params else None
    )
    run = ledger.run(full_refresh=True)
    assert run.counts["complete"] == 10
    assert "whatsappNumber" in ledger.sandbox.requests[-1]
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("status", [500, 404, 400, 401, 403])
def test_a_page_of_contacts_that_fails_for_good_is_left_out(sandbox: Sandbox, status: int) -> None:
    """The others are read, nothing is gone, and the run is not complete."""
    for n in range(250):
        sandbox.world.add_contact(f"27820000{n:03d}")
    ledger = Ledger(sandbox)
    ledger.run()
    broken = Reply(status, b'{"success": false, "error": "Internal server error"}')
    sandbox.intercept = lambda params: (
        broken if params["action"] == "contacts" and params["page"] == "2" else None
    )
    for _ in range(2):
        run = ledger.run()
        assert (run.counts["complete"], run.counts["unlisted"]) == (150, 100)
        assert (run.counts["missing"], run.counts["doubtful"]) == (0, 0)
        assert run.counts["requests"] == len(sandbox.requests)


def test_a_page_of_contacts_that_is_empty_is_read_again(sandbox: Sandbox) -> None:
    """If it stays so the run is not complete, and nothing is gone."""
    for n in range(250):
        sandbox.world.add_contact(f"27820000{n:03d}")
    ledger = Ledger(sandbox)
    ledger.run()

    def empty(params: dict[str, str]) -> Reply | None:
        if params["action"] != "contacts" or params["page"] != "2":
            return None
        pagination = {"currentPage": 2, "totalPages": 3, "hasNextPage": True, "totalContacts": 250}
        return reply_json(200, {"success": True, "contacts": [], "pagination": pagination})

    sandbox.intercept = empty
    for _ in range(2):
        run = ledger.run()
        assert run.counts["unlisted"] > 0
        assert (run.counts["missing"], run.counts["doubtful"]) == (0, 0)
    sandbox.intercept = None
    assert ledger.run().counts["unlisted"] == 0


def test_a_list_that_fails_when_it_is_read_again_ends_no_run(sandbox: Sandbox) -> None:
    """What it showed before is read."""
    ledger = well_read(sandbox, 10)

    def break_it(params: dict[str, str]) -> Reply | None:
        if params["action"] != "contacts":
            return None
        return hide_one(sandbox, params) if params["limit"] == "100" else Reply(500, b"{}")

    sandbox.intercept = break_it
    run = ledger.run()
    assert (run.counts["complete"], run.counts["unlisted"] > 0) == (9, True)
    assert (run.counts["missing"], run.counts["doubtful"]) == (0, 0)
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("off", [DAY, 365 * DAY, -DAY, -365 * DAY])
def test_a_clock_that_was_wrong_skips_nothing(
    sandbox: Sandbox, off: timedelta, all_logs: Callable[[], str]
) -> None:
    """Nothing is gone, and the run with the right clock says what it met."""
    sandbox.dialect = "overview"
    right = datetime.now().astimezone()
    sandbox.world.now = right
    for n in range(12):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 40, every=DAY)
    ledger = Ledger(sandbox)
    ledger.run(now=lambda: right + off)
    for at in (timedelta(0), off, timedelta(0)):
        for contact in sandbox.world.contacts[:3]:
            contact.messages[5].status = "failed"
            sandbox.world.add_message(contact, content="news")
        run = ledger.run(now=lambda at=at: right + at)  # type: ignore[misc]
        assert (run.counts["missing"], run.counts["doubtful"], run.counts["vanished"]) == (0, 0, 0)
        assert ledger.texts() == ledger.truth()
        assert bool(run.counts["stale"]) == (at < max(off, timedelta(0)))
    assert ("cursors are from the future" in all_logs()) == bool(off)


@pytest.mark.parametrize("off", [365 * DAY, -365 * DAY])
def test_a_full_refresh_reads_everything_whatever_the_clock_said(
    ledger: Ledger, off: timedelta
) -> None:
    """Every page of every conversation."""
    ledger.run(now=lambda: utc_now() + off)
    for contact in ledger.sandbox.world.contacts:
        contact.messages[0].content = "edited"
    assert ledger.run(full_refresh=True).counts["complete"] == 10
    assert ledger.asked == 9 + 3
    assert ledger.texts() == ledger.truth()


@pytest.fixture
def loaded_warehouse(sandbox: Sandbox, warehouse: Warehouse) -> Warehouse:
    """Ten conversations in a real warehouse."""
    for n in range(10):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 3)
    warehouse.sync(sandbox)
    return warehouse


@pytest.mark.parametrize("answer", [nothing_found, nothing_there, no_contacts])
def test_a_fault_deletes_nothing(
    loaded_warehouse: Warehouse, sandbox: Sandbox, answer: Answer
) -> None:
    """`delete_gone` notwithstanding; the view shows all, and the next sync has all."""
    count = "SELECT count(*) FROM flowiq.current_messages"
    for _ in range(2):
        sandbox.intercept = answer
        summary = loaded_warehouse.sync(sandbox, delete_gone=True)
        assert not summary.complete
        assert summary.vanished == 10
        assert "vanished" in str(summary)
        assert loaded_warehouse.one(count) == 30
    sandbox.intercept = None
    assert loaded_warehouse.sync(sandbox).complete
    assert loaded_warehouse.one(count) == 30
    assert json.loads(json.dumps(summary.as_dict()))["complete"] is False


@pytest.mark.parametrize("off", [DAY, 365 * DAY])
def test_a_clock_that_was_wrong_deletes_nothing(
    loaded_warehouse: Warehouse, sandbox: Sandbox, off: timedelta
) -> None:
    """What a sync with the clock ahead has read is live, and what came since is read."""
    loaded_warehouse.sync_with(sandbox, now=lambda: utc_now() + off, full_refresh=True)
    for contact in sandbox.world.contacts:
        sandbox.world.add_message(contact, content="news")
    for _ in range(2):
        assert loaded_warehouse.sync(sandbox, delete_gone=True).complete
        assert loaded_warehouse.one("SELECT count(*) FROM flowiq.messages") == 40
        assert loaded_warehouse.one("SELECT count(*) FROM flowiq.current_messages") == 40


@pytest.mark.parametrize(("size", "left"), [(2, 1), (4, 2), (10, 6), (25, 13), (150, 130)])
def test_a_little_of_each_conversation_is_a_fault_too(
    sandbox: Sandbox, size: int, left: int
) -> None:
    """As of an API that forgets what is old: what is much in all is doubtful in each."""
    for n in range(40):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), size)
    ledger = Ledger(sandbox)
    ledger.run()

    def newest(params: dict[str, str]) -> Reply | None:
        if not is_messages(params) or params["page"] != "1":
            return None
        limit = int(params["limit"])
        rows = json.loads(sandbox.usual_answer(params).body)["messages"]
        if left > limit:
            more = json.loads(sandbox.usual_answer(params | {"page": "2"}).body)["messages"]
            rows += more[: left - limit]
        return listing("messages", rows[:left], left)

    sandbox.intercept = newest
    for _ in range(3):
        run = ledger.run()
        assert run.counts["vanished"] > 0
        lost = sum((ledger.truth() - ledger.texts()).values())
        assert lost <= max(10, 40 * size // 10)
    assert ledger.run(force=True).counts["doubtful"] == 0
    assert len(ledger.current()) == 40 * left
    sandbox.intercept = None
    assert ledger.run().counts["complete"] == 40
    assert ledger.texts() == ledger.truth()


@pytest.mark.parametrize("most", [2, 3])
@pytest.mark.parametrize("answer", [nothing_found, nothing_there])
def test_what_few_are_asked_for_at_a_time_is_no_less_a_fault(
    ledger: Ledger, answer: Answer, most: int
) -> None:
    """With `max_requests`, what earlier runs left in doubt counts too."""
    before = ledger.truth()
    ledger.sandbox.intercept = answer
    for _ in range(25):
        run = ledger.run(max_requests=most)
        assert run.counts["missing"] == 0
    assert run.counts["vanished"] == 10
    assert ledger.texts() == before
    ledger.sandbox.intercept = None
    run = ledger.run()
    assert (run.counts["complete"], run.counts["vanished"]) == (10, 0)
    assert ledger.texts() == before


def test_a_fault_that_few_are_asked_in_deletes_nothing(
    loaded_warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """Nor is what one run alone has seen deleted by another."""
    sandbox.intercept = nothing_found
    for _ in range(14):
        summary = loaded_warehouse.sync(sandbox, max_requests=2, delete_gone=True)
    assert (summary.missing, summary.complete) == (0, False)
    assert loaded_warehouse.one("SELECT count(*) FROM flowiq.messages") == 30


def test_one_that_is_gone_is_gone_with_a_limit_too(ledger: Ledger) -> None:
    """The others are there, so it is no fault."""
    lost = ledger.sandbox.world.contacts[3]
    away = {lost.id, lost.number}
    ledger.sandbox.intercept = lambda params: (
        nothing_found(params)
        if away & {params.get("contactId"), params.get("whatsappNumber")}
        else None
    )
    runs = [ledger.run(max_requests=4).counts for _ in range(12)]
    assert any(counts["missing"] for counts in runs)
    assert not any(counts["vanished"] for counts in runs)
    assert lost.id not in {row["contact_id"] for row in ledger.current()}


def test_an_account_of_which_nothing_was_ever_found_is_a_fault(sandbox: Sandbox) -> None:
    """Every listed contact answers 404 in the first run: the next one asks again."""
    for n in range(10):
        contact = sandbox.world.add_contact(f"278200000{n:02d}")
        sandbox.world.add_message(contact, sender="bot-whatsapp")
    ledger = Ledger(sandbox)
    sandbox.intercept = nothing_found
    for _ in range(2):
        run = ledger.run()
        assert (run.counts["vanished"], run.counts["missing"]) == (10, 0)
    sandbox.intercept = None
    assert ledger.run().counts["complete"] == 10
    assert ledger.texts() == ledger.truth()


def test_one_contact_without_a_conversation_is_no_fault(sandbox: Sandbox) -> None:
    """It is missing at once, because there was nothing to lose, and asked for after a week."""
    for n in range(5):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 3)
    bare = sandbox.world.contacts[0]
    bare.messages.clear()
    sandbox.intercept = missing(bare)
    ledger = Ledger(sandbox)
    run = ledger.run()
    assert (run.counts["missing"], run.counts["vanished"], run.counts["complete"]) == (1, 0, 4)
    ledger.run()
    assert ledger.asked == 4


def missing(contact: Contact) -> Answer:
    """404 for one contact's conversation, by either address."""
    lost = {contact.id, contact.number}
    return lambda params: (
        nothing_found(params)
        if lost & {params.get("contactId"), params.get("whatsappNumber")}
        else None
    )


def test_a_third_of_each_conversation_is_a_fault_too(sandbox: Sandbox) -> None:
    """As of an API that shows but the first page of each, and counts no more."""
    for n in range(10):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 150)
    ledger = Ledger(sandbox)
    ledger.run()

    def first_page(params: dict[str, str]) -> Reply | None:
        if not is_messages(params):
            return None
        rows = json.loads(sandbox.usual_answer(params | {"limit": "100"}).body)["messages"]
        return listing("messages", rows, len(rows))

    sandbox.intercept = first_page
    for _ in range(3):
        run = ledger.run()
        assert (run.counts["complete"], run.counts["vanished"]) == (0, 10)
        assert ledger.texts() == ledger.truth()
    sandbox.intercept = None
    assert ledger.run().counts["complete"] == 10


def test_a_missing_conversation_that_stays_unread_is_asked_for_once_a_week(
    sandbox: Sandbox,
) -> None:
    """What the contact list showed when it went missing is no sign of life."""
    ledger = well_read(sandbox, 20)
    lost = sandbox.world.contacts[3]
    sandbox.intercept = missing(lost)
    asked = []
    for _ in range(4):
        ledger.run()
        asked.append(ledger.asked)
    assert asked == [21, 21, 19, 19]
    ledger.run(now=lambda: utc_now() + 8 * DAY)
    assert ledger.asked == 21


def test_a_long_conversation_that_is_gone_is_gone_with_force(ledger: Ledger) -> None:
    """One that was read in parts, alone or among others that are gone too."""
    [long] = [c for c in ledger.sandbox.world.contacts if len(c.messages) == 250]
    ledger.run(full_refresh=True, part_rows=100)
    for gone in (missing(long), nothing_found):
        ledger.sandbox.intercept = gone
        ledger.run(part_rows=100)
        run = ledger.run(part_rows=100, force=True)
        assert run.counts["vanished"] == 0
        assert not [row for row in ledger.current() if row["contact_id"] == long.id]
    assert not ledger.current()
    ledger.sandbox.intercept = None
    ledger.run(part_rows=100, full_refresh=True)
    assert ledger.texts() == ledger.truth()


def test_what_is_all_gone_and_deleted_is_not_looked_for_again(
    loaded_warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """An empty table that has to be empty is no lost one."""
    sandbox.intercept = nothing_found
    loaded_warehouse.sync(sandbox)
    summary = loaded_warehouse.sync(sandbox, delete_gone=True, force=True)
    assert (summary.missing, summary.complete) == (10, True)
    assert loaded_warehouse.one("SELECT count(*) FROM flowiq.messages") == 0
    assert loaded_warehouse.sync(sandbox).requests == 1
    sandbox.intercept = None
    assert loaded_warehouse.sync(sandbox, full_refresh=True).read == 10
    assert loaded_warehouse.one("SELECT count(*) FROM flowiq.current_messages") == 30


@pytest.mark.parametrize("how", ["sync", "run"])
def test_an_account_that_knows_numbers_alone_pays_once(
    warehouse: Warehouse, sandbox: Sandbox, how: str
) -> None:
    """What has found messages is tried first by the runs after it."""
    for n in range(20):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 3)
    sandbox.intercept = lambda params: nothing_found(params) if "contactId" in params else None
    asked = []
    for _ in range(3):
        getattr(warehouse, how)(sandbox)
        asked.append(message_requests(sandbox))
    assert 20 < asked[0] <= 40
    assert asked[1:] == [20, 20]
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 60
    # An API that changes its mind is followed.
    sandbox.intercept = lambda params: nothing_found(params) if "whatsappNumber" in params else None
    for _ in range(2):
        getattr(warehouse, how)(sandbox)
    assert message_requests(sandbox) == 20


def test_an_account_whose_ids_find_empty_lists_is_asked_by_number(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """In the second run, if in the first nobody had a message; if that is true, only once."""
    for n in range(10):
        contact = sandbox.world.add_contact(f"278200000{n:02d}")
        sandbox.world.add_message(contact, sender="bot-whatsapp")
    sandbox.intercept = lambda params: nothing_there(params) if "contactId" in params else None
    warehouse.sync(sandbox)
    assert warehouse.sync(sandbox).complete
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 10
    assert verify(warehouse.pipeline, warehouse.source(sandbox)).differences == []


def test_an_account_without_a_message_is_doubted_once(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """It costs twice as much in the second run, and no more from then on."""
    for n in range(5):
        sandbox.world.add_contact(f"278200000{n:02d}")
    asked = []
    for _ in range(4):
        warehouse.sync(sandbox)
        asked.append(message_requests(sandbox))
    assert asked == [5, 10, 5, 5]
