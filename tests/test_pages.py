"""Pages that are refused, empty or repeated: what is the end of a list, and what is a fault."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from flowiq_source.sandbox import Reply, Sandbox, reply_json
from tests.support.history import HOUR, write
from tests.support.ledger import Ledger

Answer = Callable[[dict[str, str]], Reply | None]

NO_IDS, IDS = "reference", "seed"
DIALECTS = pytest.mark.parametrize("dialect", [NO_IDS, IDS])
SAYS: dict[str, tuple[str, ...]] = {
    "everything": ("currentPage", "totalPages", "total", "hasNextPage", "messagesPerPage"),
    "the count": ("totalMessages", "totalContacts"),
    "whether a page follows": ("hasNextPage",),
    "nothing": (),
}
PROMISES = pytest.mark.parametrize("says", [says for says in SAYS if says != "nothing"])


def ledger_of(sandbox: Sandbox, dialect: str, *sizes: int) -> Ledger:
    """Conversations of these sizes, and none of them read."""
    sandbox.dialect = dialect
    for n, size in enumerate(sizes):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), size)
    return Ledger(sandbox)


def saying(
    sandbox: Sandbox,
    says: str,
    change: Callable[[dict[str, Any], dict[str, str]], Reply | None] = lambda body, params: None,
    action: str = "conversation-messages",
) -> Answer:
    """Answers that say so much of the whole, changed after that."""

    def intercept(params: dict[str, str]) -> Reply | None:
        if params["action"] != action:
            return None
        body = json.loads(sandbox.usual_answer(params).body)
        said = body["pagination"]
        body["pagination"] = {k: v for k, v in said.items() if k.startswith(SAYS[says])}
        return change(body, params) or reply_json(200, body)

    return intercept


def no_such_page(status: int) -> Reply:
    """A refusal."""
    return Reply(status, b'{"success": false, "error": "Not found"}')


def without_page_2(status: int) -> Callable[..., Reply | None]:
    """Page 2 is refused, whatever its size."""
    return lambda body, params: no_such_page(status) if params["page"] == "2" else None


def no_end(body: dict[str, Any], params: dict[str, str]) -> Reply | None:
    """Every full page says that another follows, and the one that is not there is refused."""
    body["pagination"] |= {"hasNextPage": len(body["messages"]) == int(params["limit"])}
    return None if body["messages"] else no_such_page(404)


@DIALECTS
@PROMISES
@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_page_that_was_promised_and_is_refused_is_a_failure(
    sandbox: Sandbox, dialect: str, says: str, status: int
) -> None:
    """What came is kept, nothing is gone however often, and the next healthy run has all."""
    ledger = ledger_of(sandbox, dialect, 250, *[3] * 11)
    long = sandbox.world.contacts[0].id
    sandbox.intercept = saying(sandbox, says, without_page_2(status))
    for new in (133, 0):
        run = ledger.run()
        assert (run.counts["failed"], run.counts["complete"], run.counts["newer"]) == (1, 11, new)
        error = ledger.conversations[long]["error"]
        assert "no page 2 after 100 messages" in error
        assert f"page 2: HTTP {status}" in error
        assert len(ledger.current()) == 133
        assert ledger.asked == 11 + 3
    sandbox.intercept = saying(sandbox, says)
    assert ledger.run().counts["complete"] == 12
    assert ledger.texts() == ledger.truth()
    sandbox.intercept = saying(sandbox, says, without_page_2(status))
    for _ in range(3):
        run = ledger.run(full_refresh=True)
        assert (run.counts["failed"], run.counts["missing"], run.counts["doubtful"]) == (1, 0, 0)
        assert ledger.texts() == ledger.truth()


@DIALECTS
@pytest.mark.parametrize("says", ["whether a page follows", "nothing"])
@pytest.mark.parametrize("part_rows", [10**6, 200])
def test_a_refusal_behind_the_last_row_is_the_end(
    sandbox: Sandbox, dialect: str, says: str, part_rows: int
) -> None:
    """Though the last page was full and promised another; also where a part ends with it."""
    ledger = ledger_of(sandbox, dialect, 100, 300, 400, 7)
    sandbox.intercept = saying(sandbox, says, no_end)
    for new in (807, 0, 0):
        run = ledger.run(part_rows=part_rows)
        assert (run.counts["complete"], run.counts["newer"]) == (4, new)
        assert ledger.texts() == ledger.truth()


@DIALECTS
def test_a_count_that_never_comes_true_promises_a_page_that_is_refused(
    sandbox: Sandbox, dialect: str
) -> None:
    """The list ends there all the same: the surplus is noted, and costs nothing later."""
    ledger = ledger_of(sandbox, dialect, 200, 300, 3)

    def promise(body: dict[str, Any], params: dict[str, str]) -> Reply | None:
        said = body["pagination"]
        said["totalMessages"] += 1
        said["totalPages"] = -(-said["totalMessages"] // int(params["limit"]))
        said["hasNextPage"] = said["currentPage"] < said["totalPages"]
        return None if body["messages"] else no_such_page(404)

    sandbox.intercept = saying(sandbox, "everything", promise)
    assert ledger.run().counts["complete"] == 3
    assert ledger.texts() == ledger.truth()
    assert {row["surplus"] for row in ledger.conversations.values()} == {1}
    ledger.run()
    assert (ledger.asked, ledger.written) == (3, 0)


@DIALECTS
@pytest.mark.parametrize("known", [101, 110, 150])
@pytest.mark.parametrize("odd", ["refused", "empty"])
def test_one_odd_page_where_nothing_is_counted_loses_nothing(
    sandbox: Sandbox, dialect: str, known: int, odd: str
) -> None:
    """Not one message: what is less than was known has to end there with another size too."""
    ledger = ledger_of(sandbox, dialect, known, *[3] * 11)
    sandbox.intercept = saying(sandbox, "nothing")
    ledger.run()

    def break_page_2(body: dict[str, Any], params: dict[str, str]) -> Reply | None:
        if params["page"] == "2":
            body["messages"] = []
            return no_such_page(404) if odd == "refused" else None
        return None

    sandbox.intercept = saying(sandbox, "nothing", break_page_2)
    assert ledger.run().counts["failed"] == 1
    assert ledger.texts() == ledger.truth()
    sandbox.intercept = saying(sandbox, "nothing", no_end)
    world = sandbox.world
    contact = world.contacts[0]
    for message in contact.history(world.now)[100:]:
        world.delete_message(contact, message)
    run = ledger.run(force=True)
    # With force, because so many are lost; else the next run would have to see it too.
    assert (run.counts["failed"], run.counts["complete"] + run.counts["doubtful"]) == (0, 12)
    ledger.run(force=True)
    assert ledger.texts() == ledger.truth()


def ignoring_pages(sandbox: Sandbox, kind: str, said: dict[str, Any]) -> Answer:
    """All rows on whatever page is asked for; `said` of the whole, with the true count in it."""

    def intercept(params: dict[str, str]) -> Reply | None:
        if params["action"] != ("contacts" if kind == "contacts" else "conversation-messages"):
            return None
        rows: list[Any] = []
        for page in range(1, 5):
            asked = params | {"limit": "100", "page": str(page)}
            rows += json.loads(sandbox.usual_answer(asked).body)[kind]
        counted = {name: len(rows) if value == "all" else value for name, value in said.items()}
        return reply_json(200, {"success": True, kind: rows, "pagination": counted})

    return intercept


@DIALECTS
@pytest.mark.parametrize("kind", ["contacts", "messages"])
@pytest.mark.parametrize("more", [True, None, False])
@pytest.mark.parametrize("counts", [True, False])
def test_an_api_that_goes_by_no_page_number_is_read_once(
    sandbox: Sandbox, dialect: str, kind: str, more: bool | None, counts: bool
) -> None:
    """Nothing is doubled, and it costs a page more at the most."""
    sizes = [250] + [1] * 149 if kind == "contacts" else [250]
    ledger = ledger_of(sandbox, dialect, *sizes)
    said = {} if more is None else {"hasNextPage": more}
    said |= {f"total{kind.title()}": "all"} if counts else {}  # type: ignore[dict-item]
    sandbox.intercept = ignoring_pages(sandbox, kind, said)
    for _ in range(3):
        run = ledger.run()
        assert (run.counts["complete"], run.counts["unlisted"]) == (len(sizes), 0)
        assert (ledger.texts(), len(ledger.messages)) == (ledger.truth(), sum(sizes))
        assert ledger.asked <= len(sizes) + (kind == "messages") + 2 * (kind == "contacts")
        assert len(sandbox.requests) - ledger.asked <= 2


@DIALECTS
@pytest.mark.parametrize("says", ["whether a page follows", "nothing"])
@pytest.mark.parametrize("part_rows", [10**6, 200])
def test_an_api_that_repeats_its_last_page_is_no_alarm(
    sandbox: Sandbox, dialect: str, says: str, part_rows: int
) -> None:
    """Whatever page behind it is asked for: pages of another size show that there is no more."""
    ledger = ledger_of(sandbox, dialect, 100, 250, 400, *[3] * 97)

    def clamped(params: dict[str, str]) -> Reply | None:
        kind = "contacts" if params["action"] == "contacts" else "messages"
        for page in range(int(params["page"]), 0, -1):
            asked = params | {"page": str(page)}
            body: dict[str, Any] = json.loads(sandbox.usual_answer(asked).body)
            if body[kind]:
                break
        is_full = len(body[kind]) == int(params["limit"])
        body["pagination"] = {"hasNextPage": is_full} if says != "nothing" else {}
        return reply_json(200, body)

    sandbox.intercept = clamped
    for new in (100 + 250 + 400 + 3 * 97, 0):
        run = ledger.run(part_rows=part_rows)
        assert (run.counts["complete"], run.counts["unlisted"]) == (100, 0)
        assert (run.counts["newer"], len(ledger.messages)) == (new, 100 + 250 + 400 + 3 * 97)
        assert ledger.texts() == ledger.truth()
        assert len(sandbox.requests) - ledger.asked == 3


@DIALECTS
@pytest.mark.parametrize("seed", range(3))
def test_a_count_that_wobbles_keeps_no_long_conversation_from_its_end(
    sandbox: Sandbox, dialect: str, seed: int
) -> None:
    """Where it falls, the page before is looked at again: no row has moved back over it."""
    random = Random(seed)
    ledger = ledger_of(sandbox, dialect, 1000, 3)

    def wobble(body: dict[str, Any], _: dict[str, str]) -> None:
        body["pagination"]["totalMessages"] += random.choice([-1, 0, 1])

    sandbox.intercept = saying(sandbox, "everything", wobble)
    for _ in range(3):
        assert ledger.run(part_rows=300).counts["complete"] == 2
        assert ledger.texts() == ledger.truth()
        assert len(ledger.messages) == 1003


@DIALECTS
@pytest.mark.parametrize("part_rows", [10**6, 200])
def test_an_api_that_writes_zeros_and_counts_nothing_is_read_to_its_end(
    sandbox: Sandbox, dialect: str, part_rows: int
) -> None:
    """As of one that never filled them in."""
    ledger = ledger_of(sandbox, dialect, 100, 250, 400, *[0] * 97)

    def unfilled(params: dict[str, str]) -> Reply:
        body: dict[str, Any] = json.loads(sandbox.usual_answer(params).body)
        zeros = {name: type(value)() for name, value in body["pagination"].items()}
        body["pagination"] = zeros
        return reply_json(200, body)

    sandbox.intercept = unfilled
    for _ in range(2):
        run = ledger.run(part_rows=part_rows)
        assert (run.counts["complete"], run.is_complete) == (100, True)
        assert ledger.texts() == ledger.truth()


def test_a_surplus_is_nothing_to_read(sandbox: Sandbox) -> None:
    """However large: a message more costs what it always costs, and no reading in parts."""
    ledger = ledger_of(sandbox, IDS, 250)

    def miscount(body: dict[str, Any], _: dict[str, str]) -> None:
        body["pagination"]["totalMessages"] += 5000

    sandbox.intercept = saying(sandbox, "everything", miscount)
    ledger.run(part_rows=300)
    sandbox.world.advance(HOUR)
    sandbox.world.add_message(sandbox.world.contacts[0])
    assert ledger.run(part_rows=300, lookback_days=1).counts["complete"] == 1
    assert ledger.asked == 1
    assert ledger.texts() == ledger.truth()


@DIALECTS
@pytest.mark.parametrize("says", SAYS)
def test_a_page_that_is_handed_out_for_all_others_is_a_failure(
    sandbox: Sandbox, dialect: str, says: str
) -> None:
    """As of a cache that looks at no page number: nothing is doubled, and few are asked for."""
    ledger = ledger_of(sandbox, dialect, 450, 3)

    def first_page(params: dict[str, str]) -> Reply | None:
        if params["action"] != "conversation-messages":
            return None
        return saying(sandbox, says)(params | {"page": "1"})

    def cached(params: dict[str, str]) -> Reply | None:
        reply = first_page(params)
        if reply is None:
            return None
        body = json.loads(reply.body)
        body["pagination"].pop("currentPage", None)
        return reply_json(200, body)

    sandbox.intercept = cached
    run = ledger.run()
    assert (run.counts["failed"], run.counts["complete"]) == (1, 1)
    assert (len(ledger.messages), ledger.asked) == (103, 4)
    sandbox.intercept = saying(sandbox, says)
    assert ledger.run().counts["complete"] == 2
    assert ledger.texts() == ledger.truth()


@DIALECTS
@pytest.mark.parametrize("left", [433, 400])
def test_a_long_conversation_that_is_not_counted_is_doubted_too(
    sandbox: Sandbox, dialect: str, left: int
) -> None:
    """It is held against what was known before its first part; reading it again is no news."""
    ledger = ledger_of(sandbox, dialect, 1000, *[3] * 14)
    sandbox.intercept = saying(sandbox, "nothing")
    for new in (1042, 0):
        assert ledger.run(part_rows=300).counts["newer"] == new
    assert ledger.texts() == ledger.truth()

    def cut(body: dict[str, Any], params: dict[str, str]) -> Reply | None:
        before = (int(params["page"]) - 1) * int(params["limit"])
        body["messages"] = body["messages"][: max(0, left - before)]
        return None

    sandbox.intercept = saying(sandbox, "nothing", cut)
    run = ledger.run(part_rows=300)
    assert run.counts["doubtful"] == 1
    assert ledger.texts() == ledger.truth()
    sandbox.intercept = saying(sandbox, "nothing")
    assert ledger.run(part_rows=300).counts["complete"] == 15
    assert ledger.texts() == ledger.truth()
    sandbox.intercept = saying(sandbox, "nothing", cut)
    ledger.run(part_rows=300)
    ledger.run(part_rows=300)
    assert len(ledger.current()) == left + 42


@DIALECTS
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("odd", ["refused", "empty"])
def test_a_long_conversation_that_is_half_read_keeps_its_half(
    sandbox: Sandbox, dialect: str, counts: bool, odd: str
) -> None:
    """When it answers nothing in the next run; it is gone when the run after that sees the same."""
    ledger = ledger_of(sandbox, dialect, 1000)
    says = "everything" if counts else "nothing"
    sandbox.intercept = saying(sandbox, says)
    ledger.run(part_rows=300, parts=2)
    half = len(ledger.current())
    assert half >= 400

    def answer_nothing(body: dict[str, Any], _: dict[str, str]) -> Reply | None:
        body["messages"] = []
        body["pagination"] = {"totalMessages": 0, "hasNextPage": False} if counts else {}
        return no_such_page(404) if odd == "refused" else None

    sandbox.intercept = saying(sandbox, says, answer_nothing)
    assert ledger.run(part_rows=300).counts["doubtful"] == 1
    assert len(ledger.current()) == half
    sandbox.intercept = saying(sandbox, says)
    assert ledger.run(part_rows=300).counts["complete"] == 1
    assert ledger.texts() == ledger.truth()
    sandbox.world.add_message(sandbox.world.contacts[0], sandbox.world.now + HOUR)
    sandbox.world.advance(2 * HOUR)
    ledger.run(part_rows=300)
    assert ledger.texts() == ledger.truth()
