"""Runs with a limit: the most useful first, everything in the end, never more than allowed."""

from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest

from flowiq_source import plan
from flowiq_source.errors import ConfigurationError
from flowiq_source.reading.conversation import Conversation, Rules
from flowiq_source.reading.cursor import Cursor
from flowiq_source.reading.schedule import Budget, Schedule, make_schedule
from flowiq_source.sandbox import Contact, Reply, Sandbox
from tests.support.history import DAY, HOUR, expected, loaded, write
from tests.support.script import Run
from tests.support.warehouse import UNLIMITED, Warehouse

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
WEEK = timedelta(days=7)


def cursor(synced_at: datetime, newest: datetime = NOW, known: int = 5) -> Cursor:
    """A conversation that was read to its end at a time."""
    return Cursor(newest, known, scan=1, used=1, synced_at=synced_at, rescanned_at=synced_at)


Known = list[tuple[Conversation, Cursor]]


def schedule(known: Known, **rules: Any) -> Schedule:
    """What run 2 reads of these."""
    cursors = {c.contact_id: cursor for c, cursor in known}
    decided: dict[str, Any] = {"run": 2, "started_at": NOW, "lookback": WEEK} | rules
    return make_schedule([c for c, _ in known], cursors.__getitem__, Rules(**decided))


def order(known: Known, **rules: Any) -> list[str]:
    """The contacts in the order in which a run reads them."""
    return [due.conversation.contact_id for due in schedule(known, **rules).due]


def conversation(
    name: str, active_at: datetime | None = None, unread: bool = False
) -> Conversation:
    """A conversation as the contact list shows it."""
    return Conversation(name, None, (), active_at, unread)


def test_the_useful_and_the_long_unread_take_turns() -> None:
    """Never read; unread by the business; longest ago; recently active; and the rest."""
    known: Known = [
        (conversation("calm", NOW - 3 * DAY), cursor(NOW - 2 * DAY)),
        (conversation("busy", NOW - HOUR), cursor(NOW - DAY)),
        (conversation("unread", NOW - 5 * DAY, unread=True), cursor(NOW - DAY)),
        (conversation("forgotten", NOW - 4 * DAY), cursor(NOW - 3 * DAY)),
        (conversation("new"), Cursor()),
    ]
    assert order(known) == ["new", "unread", "forgotten", "busy", "calm"]


def test_a_long_rescan_does_not_take_the_place_of_the_others() -> None:
    """At least half of the requests, not of the conversations, go to the longest unread."""
    known: Known = [(conversation(f"old{n}"), cursor(NOW - DAY - n * HOUR)) for n in range(60)]
    known.append((conversation("long", NOW, unread=True), cursor(NOW - HOUR, known=5_000)))
    known.append((conversation("next", NOW - HOUR, unread=True), cursor(NOW - HOUR)))
    read = order(known, full_refresh=True)
    assert read.index("long") == 1
    assert read.index("next") > 50


def test_a_hundred_thousand_conversations_are_all_read_within_the_bound() -> None:
    """N conversations of one request within 2·n / r runs of r requests, whoever is busy."""
    random = Random(11)
    total, per_run = 100_000, 40_000
    bound = 2 * total // per_run
    cursors: dict[str, Cursor] = {}
    busy = {f"c{n}" for n in range(per_run)}
    now = NOW
    last_read: dict[str, int] = {}
    for number in range(bound):
        now += DAY
        listed = [
            Conversation(f"c{n}", None, (), now - HOUR * random.random(), f"c{n}" in busy)
            for n in range(total)
        ]
        rules = Rules(number + 1, now, WEEK)
        made = make_schedule(listed, lambda contact: cursors.get(contact, Cursor()), rules)
        budget = Budget(per_run)
        for due in made.due:
            meter = budget.begin(due.expected, 0.0)
            if meter is None:
                break
            meter.requests, meter.closed = 1, True
            cursors[due.conversation.contact_id] = cursor(now, now)
            last_read[due.conversation.contact_id] = number
        assert len([c for c in last_read if last_read[c] == number]) == per_run
    assert len(cursors) == total
    # The busy half of every run's requests went to the busy ones.
    assert sum(last_read[c] == bound - 1 for c in busy) >= per_run // 2


def test_an_interrupted_run_is_gone_on_with_by_its_number() -> None:
    """What it has read is not read again, whatever the clock says; what is in parts goes on."""
    for at in (NOW - DAY, NOW + DAY):
        read = cursor(at)._replace(run=2)
        known: Known = [
            (conversation("read"), read),
            (conversation("begun"), read._replace(next_page=3)),
            (conversation("other"), cursor(at)),
        ]
        assert set(order(known)) == {"begun", "other"}
        assert set(order(known, run=3)) == {"read", "begun", "other"}


def test_a_cursor_from_the_future_proves_nothing() -> None:
    """Neither that nothing is new nor that it was asked for lately; it is counted."""
    active = NOW - 30 * DAY
    quiet, missing = cursor(NOW - DAY, active), cursor(NOW - DAY)._replace(missing=True)
    known: Known = [(conversation("quiet", active), quiet), (conversation("missing"), missing)]
    made = schedule(known)
    assert (made.due, len(made.quiet), made.stale) == ([], 1, 0)
    known = [(c, was._replace(synced_at=NOW + DAY)) for c, was in known]
    assert (len(schedule(known).due), schedule(known).stale) == (2, 2)


def test_a_list_whose_times_are_behind_calls_nothing_quiet() -> None:
    """Not that conversation, and none at all where there are several of them."""
    old = NOW - 30 * DAY

    def asked(behind: int, of: int, by: timedelta = HOUR) -> int:
        times = [old - by * (n < behind) for n in range(of)]
        read = cursor(NOW - DAY, old)
        return len(order([(conversation(str(n), at), read) for n, at in enumerate(times)]))

    assert [asked(0, 40), asked(1, 40), asked(2, 40), asked(3, 40)] == [0, 1, 2, 40]
    assert [asked(1, 1), asked(1, 5), asked(2, 5)] == [1, 1, 5]
    # One of them is written without fractions of a second.
    assert asked(40, 40, by=timedelta(milliseconds=999)) == 0


def test_a_missing_conversation_is_asked_for_when_it_shows_life_or_a_week_has_passed() -> None:
    """At once if its contact had not been listed, and with a full refresh."""
    missing = cursor(NOW - DAY, NOW - 9 * DAY)._replace(missing=True)
    one = conversation("one", NOW - 9 * DAY)
    assert order([(one, missing)]) == []
    assert order([(one, missing)], full_refresh=True) == ["one"]
    assert order([(one, missing._replace(unlisted=True))]) == ["one"]
    assert order([(one, missing._replace(synced_at=NOW - WEEK))]) == ["one"]
    assert order([(conversation("one", NOW - DAY), missing)]) == ["one"]
    assert order([(conversation("one", unread=True), missing)]) == ["one"]
    for shown in (conversation("one", NOW - DAY), conversation("one", unread=True)):
        assert order([(shown, missing._replace(first_page=shown.activity))]) == []


def test_a_share_of_a_run_goes_to_what_was_read_whole_longest_ago() -> None:
    """The first may overdraw it, or the longest would never have its turn."""
    known: Known = [(conversation(f"c{n}"), cursor(NOW - n * DAY, known=300)) for n in range(1, 21)]
    made = schedule(known, rescan_share=0.2)
    assert {due.conversation.contact_id for due in made.due if due.whole} == {"c20", "c19"}
    known.append((conversation("long"), cursor(NOW - 99 * DAY, known=90_000)))
    made = schedule(known, rescan_share=0.2)
    assert [due.conversation.contact_id for due in made.due if due.whole] == ["long"]


def test_a_budget_counts_what_is_on_its_way() -> None:
    """By what it will cost, or has cost if that is more, until it is done."""
    budget = Budget(max_requests=5)
    first, second = budget.begin(1, 0.0), budget.begin(2, 0.0)
    assert first
    assert second
    assert budget.begin(3, 0.0) is None
    second.requests, second.closed = 1, True
    assert budget.begin(3, 0.0) is not None
    assert budget.begin(1, 0.0) is None
    assert Budget(deadline_s=10.0).begin(1, 9.9) is not None
    assert Budget(deadline_s=10.0).begin(1, 10.0) is None


def test_limited_runs_read_everything_in_the_end(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """No run spends more than allowed; what is left is said, and read by the next."""
    for n in range(30):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 2)
    left = []
    for _ in range(10):
        summary = warehouse.sync(sandbox, max_requests=8)
        assert summary.requests == len(sandbox.requests) <= 8
        assert summary.complete
        left.append(summary.carried_over)
        if loaded(warehouse) == expected(sandbox):
            break
    assert left[0] == 30 - 7
    assert len(left) <= 2 * 30 / 7 + 1
    assert loaded(warehouse) == expected(sandbox)


def test_a_limited_run_goes_over_packages(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """The limit is the run's, not the package's."""
    for n in range(12):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 1)
    summary = warehouse.sync(sandbox, package=3, max_requests=9)
    assert (summary.requests, summary.read, summary.carried_over) == (9, 8, 4)
    assert "carried         4 conversations are left to the next run" in str(summary)


def test_a_conversation_that_was_begun_is_read_to_its_end(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """However long: half of it would be paid for again."""
    write(sandbox, alice, 450)
    summary = warehouse.sync(sandbox, max_requests=2)
    assert (summary.requests, summary.read) == (1 + 5, 1)


def test_a_run_without_time_begins_nothing(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """After the contacts are listed; the next run has the time."""
    write(sandbox, sandbox.world.add_contact("27820000001"), 1)
    summary = warehouse.sync(sandbox, max_minutes=1e-9)
    assert (summary.requests, summary.read, summary.carried_over) == (1, 0, 1)
    assert warehouse.sync(sandbox, max_minutes=60).read == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_requests": 0}, "max_requests must be above 0"),
        ({"max_minutes": -1}, "max_minutes must be above 0"),
        ({"max_requests": 2}, "contact list alone costs 2"),
        ({"max_requests": 9, "start_date": "2026-01-01"}, "incremental syncs alone"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(
    warehouse: Warehouse, sandbox: Sandbox, settings: dict[str, Any], named: str
) -> None:
    """Saying which, for one request at the most where the contacts need more than it."""
    for n in range(101):
        sandbox.world.add_contact(f"27820000{n:03d}")
    with pytest.raises(Exception, match=named) as failed:
        warehouse.sync(sandbox, **settings)
    cause: BaseException | None = failed.value
    while cause and not isinstance(cause, ConfigurationError):
        cause = cause.__cause__
    assert cause


@pytest.mark.parametrize("dialect", ["reference", "overview"])
def test_a_plan_says_what_the_run_then_costs(
    warehouse: Warehouse, sandbox: Sandbox, dialect: str
) -> None:
    """Before the first sync, before a second, and before a full refresh; for one request."""
    sandbox.dialect = dialect
    for n in range(130):
        write(sandbox, sandbox.world.add_contact(f"27820000{n:03d}"), 1 + 250 * (n == 0))

    def planned(**settings: Any) -> tuple[int, int, int]:
        sandbox.requests.clear()
        made = plan(warehouse.pipeline, warehouse.source(sandbox, **settings))
        assert len(sandbox.requests) == 1
        assert made.minutes == made.requests / UNLIMITED
        return made.requests, made.new, made.quiet

    assert planned() == (2 + 130, 130, 0)
    first = warehouse.sync(sandbox)
    assert (first.requests, first.planned) == (2 + 132, 2 + 130)
    quiet = 130 if dialect == "overview" else 0
    assert planned() == (2 + 130 - quiet, 0, quiet)
    second = warehouse.sync(sandbox)
    assert second.requests == second.planned == 2 + 130 - quiet
    assert planned(full_refresh=True) == (2 + 132, 0, 0)
    third = warehouse.sync(sandbox, full_refresh=True)
    assert third.requests == third.planned == 2 + 132


def test_a_conversation_that_is_missing_is_no_new_one(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """It is not asked for again within a week, and the plan knows."""
    gone = Reply(404, b'{"success": false, "error": "Contact not found"}')
    sandbox.intercept = lambda params: gone if "ascending" in params else None
    assert warehouse.sync(sandbox).missing == 1
    made = plan(warehouse.pipeline, warehouse.source(sandbox))
    assert (made.requests, made.new) == (1, 0)
    assert warehouse.sync(sandbox).requests == 1


def test_the_command_line_plans(run: Run, sandbox: Sandbox, alice: Contact) -> None:
    """And writes nothing."""
    write(sandbox, alice, 120)
    done = run("plan", SOURCES__FLOWIQ__REQUESTS_PER_MINUTE="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "a run           2 requests, 0.0 minutes at 100 a minute" in done.stdout
    assert len(sandbox.requests) == 1
    assert run("plan", "--from", "2026-01-01").returncode == 2


def test_a_conversation_that_always_fails_keeps_no_other_waiting(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """Though it costs more than a run may spend."""
    for n in range(6):
        write(sandbox, sandbox.world.add_contact(f"278200000{n:02d}"), 3)
    bad = sandbox.world.contacts[0]
    write(sandbox, bad, 700)
    sandbox.intercept = lambda params: (
        Reply(400, b'{"success": false, "error": "Bad request"}')
        if bad.id in params.values() and params["page"] == "5"
        else None
    )
    for _ in range(7):
        warehouse.sync(sandbox, max_requests=2)
    statuses = "SELECT status, count(*) FROM flowiq.conversations GROUP BY 1 ORDER BY 1"
    assert warehouse.query(statuses) == [("complete", 5), ("failed", 1)]
    sandbox.intercept = None
    assert warehouse.sync(sandbox).complete
    assert loaded(warehouse) == expected(sandbox)


def test_what_failed_in_a_run_that_goes_on_is_tried_again() -> None:
    """Though the run has asked for it."""
    read = cursor(NOW - DAY)._replace(run=2)
    known: Known = [(conversation("read"), read), (conversation("bad"), read._replace(failed=True))]
    assert order(known) == ["bad"]
