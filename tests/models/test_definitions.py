"""Conversations made by hand, and what is right about them, written down by hand."""

from datetime import date, datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.modelled import Business, Modelled, Said

NOW = datetime(2026, 1, 12, 12, tzinfo=timezone.utc)
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    """A time of January 2026, UTC: `5 09:30`, which is a Monday."""
    return datetime.strptime(f"2026-01-{text} +0000", "%Y-%m-%d %H:%M %z")


def said(*lines: str, contact: str = "c") -> list[Said]:
    """Messages: `5 09:30 user`."""
    split = (line.rsplit(" ", 1) for line in lines)
    return [Said(at(when), who, contact) for when, who in split]


def minutes(model: Modelled, name: str, begin: str, end: str) -> list[tuple[Any, ...]]:
    """When each wait began, and its minutes by the clock and in business hours."""
    rows = model.rows(f"{begin}, {end}, wait_seconds, business_wait_seconds", name)
    return [(r[0], *(None if s is None else s / 60 for s in r[2:])) for r in rows]


def test_a_burst_of_messages_is_one_wait_and_one_answer(model: Modelled) -> None:
    """It begins with the first of them; each message of the answer is none."""
    model.say(
        said("5 09:00 user", "5 09:01 user", "5 09:02 user", "5 09:10 human", "5 09:11 human"), NOW
    )
    assert minutes(model, "fct_waits", "waiting_since", "answered_at") == [(at("5 09:00"), 10, 10)]
    assert minutes(model, "fct_agent_waits", "waiting_since", "first_agent_at") == [
        (at("5 09:00"), 10, 10)
    ]


def test_a_bot_is_no_agent(model: Modelled) -> None:
    """It ends a wait for anybody, and none for a human."""
    model.say(said("5 09:00 user", "5 09:01 bot", "5 09:05 user", "5 09:25 human"), NOW)
    rows = model.rows("waiting_since, answered_by, wait_seconds", "fct_waits")
    assert rows == [(at("5 09:00"), "bot", 60), (at("5 09:05"), "agent", 1200)]
    assert minutes(model, "fct_agent_waits", "waiting_since", "first_agent_at") == [
        (at("5 09:05"), 20, 20)
    ]


def test_a_hand_over_starts_a_wait(model: Modelled) -> None:
    """With the bot's last word, where the customer says nothing more."""
    model.say(said("5 09:00 user", "5 09:01 bot", "5 09:02 bot", "5 09:32 human"), NOW)
    rows = model.rows("waiting_since, handed_over, wait_seconds", "fct_agent_waits")
    assert rows == [(at("5 09:02"), True, 1800)]


def test_an_agent_who_writes_unasked_ends_no_wait(model: Modelled) -> None:
    """Nor does one after a bot that wrote unasked."""
    model.say(said("5 09:00 human", "5 09:10 human", "5 10:00 bot", "5 10:30 human"), NOW)
    assert model.rows("waiting_since", "fct_agent_waits") == []
    assert model.rows("waiting_since", "fct_waits") == []


def test_no_answer_is_null_and_not_zero(model: Modelled) -> None:
    """The wait stays open, with its age."""
    model.say(said("12 11:00 user"), NOW)
    row = "answered_at, answered_by, wait_seconds, business_wait_seconds, age_seconds"
    assert model.rows(row, "fct_waits") == [(None, None, None, None, 3600)]
    row = "first_agent_at, assignee, handed_over, wait_seconds, business_wait_seconds, age_seconds"
    assert model.rows(row, "fct_agent_waits") == [(None, None, False, None, None, 3600)]


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_bot_that_is_paused_leaves_the_customer_waiting_for_a_human(
    model: Modelled, is_paused: bool
) -> None:
    """From its last word on; one that is active has settled it."""
    model.say(said("12 10:00 user", "12 11:30 bot"), NOW, paused=["c"] if is_paused else [])
    rows = model.rows("waiting_since, handed_over, age_seconds", "fct_agent_waits")
    assert rows == ([(at("12 11:30"), True, 1800)] if is_paused else [])


def test_what_the_system_says_interrupts_nobody(model: Modelled) -> None:
    """It begins no turn and ends none."""
    model.say(
        said("5 09:00 user", "5 09:01 system", "5 09:02 user", "5 09:03 system", "5 09:04 bot"), NOW
    )
    assert model.rows("party, messages, next_party", "fct_turns") == [
        ("bot", 1, None),
        ("customer", 2, "bot"),
    ]


def test_messages_of_one_second_give_no_negative_time(model: Modelled) -> None:
    """They are in the order of their ids."""
    model.say(said("5 09:00 user", "5 09:00 bot", "5 09:00 user", "5 09:00 human"), NOW)
    rows = model.rows("waiting_since, answered_by, wait_seconds", "fct_waits")
    assert rows == [(at("5 09:00"), "agent", 0)]


def test_a_late_message_with_an_old_time_is_where_it_belongs(model: Modelled) -> None:
    """There is no filter by time that would miss it."""
    lines = said("5 09:00 user", "5 09:30 human")
    model.say([*lines, Said(at("5 09:10"), "human")], NOW)
    assert minutes(model, "fct_waits", "waiting_since", "answered_at") == [(at("5 09:00"), 10, 10)]


def test_two_contacts_with_the_same_message_ids_are_two(model: Modelled) -> None:
    """No join multiplies rows, and no turn goes over from one to the other."""
    lines = [
        Said(at(f"5 09:{n:02}"), who, contact, id=str(n))
        for contact in ("c", "d")
        for n, who in enumerate(["user", "human"] * 3)
    ]
    model.say(lines, NOW)
    assert len(model.rows("message_id", "fct_messages")) == 12
    assert len(model.rows("waiting_since", "fct_agent_waits")) == 6
    daily = model.rows("assignee, messages, conversations, answers", "fct_agent_daily")
    assert daily == [("unassigned", 6, 2, 6)]


def test_the_sender_says_party_and_channel(model: Modelled) -> None:
    """By its beginning and its end; what nobody knows is the system's."""
    senders = [("user", "-whatsapp"), ("bot", "-web"), ("human", "-web"), ("system", "")]
    lines = [Said(at("5 09:00"), who, suffix=suffix) for who, suffix in senders]
    model.say([*lines, Said(at("5 09:00"), "user", suffix="-sms")], NOW)
    assert model.rows("message_id, party, channel", "fct_messages") == [
        ("m00000", "customer", "whatsapp"),
        ("m00001", "bot", "web"),
        ("m00002", "agent", "web"),
        ("m00003", "system", None),
        ("m00004", "customer", "sms"),
    ]


def test_business_hours_leave_out_nights_weekends_and_holidays(model: Modelled) -> None:
    """From Friday evening to Wednesday morning, of which Monday is a holiday."""
    business = Business(holidays=frozenset({date(2026, 1, 12)}))
    model.say(said("9 16:30 user", "14 09:00 human"), NOW, business)
    # Half an hour on Friday, nine hours on Tuesday and one on Wednesday.
    assert minutes(model, "fct_waits", "waiting_since", "answered_at") == [
        (at("9 16:30"), (4 * 24 + 16.5) * 60, 630)
    ]


def test_hours_past_midnight_belong_to_the_day_on_which_they_begin(model: Modelled) -> None:
    """Saturday from 22 to 2 o'clock is open on Sunday morning."""
    business = Business(hours=[[]] * 5 + [[(22 * 60, 26 * 60)], []])
    model.say(said("10 20:00 user", "11 08:00 human"), NOW, business)
    assert minutes(model, "fct_waits", "waiting_since", "answered_at") == [
        (at("10 20:00"), 720, 240)
    ]


@pytest.mark.parametrize(
    ("day", "hours_by_the_clock", "business_minutes"),
    [("2026-03-29", 23, 23 * 60), ("2026-10-25", 25, 25 * 60), ("2026-11-01", 24, 24 * 60)],
)
def test_no_hour_vanishes_or_doubles_when_the_clock_changes(
    model: Modelled, day: str, hours_by_the_clock: int, business_minutes: int
) -> None:
    """A day in Berlin from midnight to midnight, round the clock."""
    first = datetime.fromisoformat(day).replace(tzinfo=BERLIN)
    last = datetime(first.year, first.month, first.day + 1, tzinfo=BERLIN)
    begin, end = (one.astimezone(timezone.utc) for one in (first, last))
    business = Business(zone=BERLIN, hours=[[(0, 1440)]] * 7)
    model.say([Said(begin, "user"), Said(end, "human")], end, business)
    assert minutes(model, "fct_waits", "waiting_since", "answered_at") == [
        (begin, hours_by_the_clock * 60, business_minutes)
    ]
    assert model.rows("local_date, local_hour", "fct_messages") == [
        (first.date(), 0),
        (last.date(), 0),
    ]


@pytest.mark.parametrize(
    ("lines", "outcome", "returned"),
    [
        (["1 09:00 user", "1 09:01 bot"], "contained", False),
        (["1 09:00 user", "1 09:01 bot", "3 08:00 user"], "returned", True),
        (["1 09:00 user", "1 09:01 bot", "1 09:02 human"], "handed_over", False),
        (["1 09:00 user", "1 09:02 human"], "agent_only", False),
        (["1 09:00 user"], "unanswered", False),
        (["1 09:00 user", "2 09:00 bot"], "unanswered", False),
        (["11 13:00 user", "11 13:01 bot"], "open", None),
        (["11 11:00 user", "11 11:01 bot"], "open", None),
        (["10 11:00 user", "10 11:01 human"], "agent_only", None),
        (["1 09:00 user", "1 09:01 bot", "8 08:00 user"], "contained", True),
    ],
)
def test_a_window_ends_in_one_of_these_ways(
    model: Modelled, lines: list[str], outcome: str, returned: bool | None
) -> None:
    """The first of the conversation, seen on the twelfth."""
    model.say(said(*lines), NOW)
    windows = model.rows("opened_at, outcome, returned_within_7_days", "fct_windows")
    assert windows[0][1:] == (outcome, returned)


def test_a_window_ends_a_day_after_the_last_message_of_the_customer(model: Modelled) -> None:
    """A message within that day keeps it open; what comes a day after it opens another."""
    model.say(said("1 09:00 user", "2 08:59 user", "3 08:58 human", "3 08:59 user"), NOW)
    rows = model.rows(
        "opened_at, closes_at, customer_messages, agent_messages, outcome", "fct_windows"
    )
    assert rows == [
        (at("1 09:00"), at("3 08:59"), 2, 1, "agent_only"),
        (at("3 08:59"), at("4 08:59"), 1, 0, "unanswered"),
    ]


def test_delivery_counts_each_step_with_those_after_it(model: Modelled) -> None:
    """Of our messages, a day old or older; those that failed are apart."""
    states = ["sent", "delivered", "read", "read", "failed", "undelivered", "warning", None]
    lines = [Said(at("5 09:00"), "human", status=status) for status in states]
    lines += [
        Said(at("5 09:00"), "user", status="read"),
        Said(at("11 13:00"), "bot", status="sent"),
    ]
    model.say(lines, NOW)
    rows = model.rows('local_date, sent, delivered, "read", failed, unknown', "fct_delivery_daily")
    assert rows == [(date(2026, 1, 5), 5, 3, 2, 2, 1)]
    assert model.rows("as_of", "fct_delivery_daily") == [(at("11 12:00"),)]


def test_a_percentile_lies_between_its_neighbours(model: Modelled) -> None:
    """Of waits of 10, 20, 30 and 60 minutes; none is unassigned."""
    lines = []
    for n, wait in enumerate([10, 20, 30, 60]):
        lines += [
            Said(at(f"{5 + n} 09:00"), "user", assignee="ann"),
            Said(at(f"{5 + n} {9 + wait // 60:02}:{wait % 60:02}"), "human", assignee="ann"),
        ]
    merged = [
        one._replace(at=one.at and one.at.replace(day=5), contact=f"c{n // 2}")
        for n, one in enumerate(lines)
    ]
    model.say(merged, NOW)
    row = "assignee, answers, median_wait_seconds, p90_wait_seconds, p95_wait_seconds"
    [(assignee, answers, *found)] = model.rows(row, "fct_agent_daily")
    assert (assignee, answers) == ("ann", 4)
    # Places are 0, 1, 2, 3: nine in ten is at 2.7, between 30 and 60 minutes.
    assert found == pytest.approx([25 * 60, 51 * 60, 55.5 * 60])


def test_the_backlog_is_who_has_the_last_word(model: Modelled) -> None:
    """With the time that is left of the window."""
    model.say(
        said("12 10:00 user", "12 11:00 user") + said("12 10:00 user", "12 10:30 bot", contact="d"),
        NOW,
    )
    row = "contact_id, waiting_since, messages, age_seconds, closes_at, window_seconds_left"
    assert model.rows(row, "fct_backlog") == [
        ("c", at("12 10:00"), 2, 7200, at("13 11:00"), 23 * 3600)
    ]


def test_a_message_without_a_time_is_kept_and_counts_nowhere_else(model: Modelled) -> None:
    """There is nothing to tell of it."""
    model.say([Said(None, "user"), *said("5 09:00 bot")], NOW)
    assert len(model.rows("message_id", "fct_messages")) == 2
    assert model.rows("party", "fct_turns") == [("bot",)]
    assert model.rows("local_weekday, local_hour, customer_messages", "fct_hourly_load") == [
        (1, 9, 0)
    ]
