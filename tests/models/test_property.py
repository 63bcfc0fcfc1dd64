"""The models against a slow, obvious computation of the same definitions, for any conversation."""

from collections import Counter
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.modelled import (
    Business,
    Said,
    agent_waits_of,
    backlog_of,
    in_memory,
    team_of,
    turns_of,
    waits_of,
    windows_of,
)

# Both changes of the clock lie within reach: 2026-03-29 and, for New York, 2026-03-08.
START = datetime(2026, 3, 6, 20, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)

gaps = st.one_of(
    st.sampled_from([0, 0, 1, 5, 60, 1440, 8 * 1440]), st.integers(0, 90), st.integers(0, 2 * 1440)
)
lines = st.tuples(
    gaps,
    st.sampled_from(["user", "user", "bot", "bot", "human", "system"]),
    st.sampled_from(["sent", "delivered", "read", "failed", None, "odd"]),
    st.sampled_from([None, "ann", "bob"]),
)
conversations = st.lists(st.lists(lines, max_size=12), min_size=1, max_size=6)
Lines = list[list[tuple[int, str, str | None, str | None]]]
spans = st.lists(
    st.tuples(st.integers(0, 1439), st.integers(1, 1439)).map(lambda s: (s[0], s[0] + s[1])),
    max_size=2,
)
businesses = st.builds(
    Business,
    zone=st.sampled_from(
        [ZoneInfo(z) for z in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")]
    ),
    hours=st.lists(spans, min_size=7, max_size=7),
    holidays=st.sets(st.dates(date(2026, 3, 6), date(2026, 3, 31)), max_size=3).map(frozenset),
)
model = in_memory()


def said(lines: Lines) -> list[Said]:
    """The messages, each so many minutes after the one before it in its conversation."""
    found = []
    for n, conversation in enumerate(lines):
        at = START
        for gap, who, status, assignee in conversation:
            at += gap * MINUTE
            found.append(Said(at, who, f"c{n}", status=status, assignee=assignee))
    return found


@settings(max_examples=60)
@given(conversations, businesses, st.integers(0, 12 * 1440), st.booleans())
def test_waits_and_windows_are_what_their_definitions_say(
    lines: Lines,
    business: Business,
    later: int,
    is_paused: bool,
) -> None:
    """Both kinds of waits, by the clock on the wall and in business hours; and every window."""
    messages = said(lines)
    now = max([START, *(one.at for one in messages if one.at)]) + later * MINUTE
    paused = ["c0", "c1", "c2"] if is_paused else []
    model.say(messages, now, business, paused)
    key = "contact_id, waiting_since"
    spans = "wait_seconds, business_wait_seconds, age_seconds"
    waits = model.rows(f"{key}, answered_at, answered_by, {spans}", "fct_waits")
    assert sorted(waits) == waits_of(messages, now, business)
    waits = model.rows(f"{key}, first_agent_at, handed_over, {spans}", "fct_agent_waits")
    assert sorted(waits) == agent_waits_of(messages, now, business, paused)
    windows = model.rows(
        "contact_id, opened_at, closes_at, customer_messages, bot_messages, agent_messages, "
        "outcome, returned_within_7_days",
        "fct_windows",
    )
    assert sorted(windows) == windows_of(messages, now)


@settings(max_examples=40)
@given(conversations, businesses)
def test_turns_backlog_and_team_are_what_their_definitions_say(
    lines: Lines, business: Business
) -> None:
    """All their columns; percentiles to the microsecond."""
    messages = said(lines)
    now = max([START, *(one.at for one in messages if one.at)]) + 90 * MINUTE
    model.say(messages, now, business)
    turns = model.rows(
        "contact_id, turn_number, party, began_at, ended_at, messages, assignee, next_party, "
        "next_began_at",
        "fct_turns",
    )
    assert turns == turns_of(messages)
    backlog = model.rows(
        "contact_id, waiting_since, last_message_at, messages, age_seconds, closes_at, "
        "window_seconds_left",
        "fct_backlog",
    )
    assert backlog == backlog_of(messages, now)
    parts = ("median", "p90", "p95")
    percentiles = [f"{part}_{kind}wait_seconds" for kind in ("", "business_") for part in parts]
    columns = ["local_date", "assignee", "messages", "conversations", "answers", *percentiles]
    team = model.rows(", ".join(columns), "fct_agent_daily")
    expected = team_of(messages, now, business)
    assert [row[:5] for row in team] == [row[:5] for row in expected]
    for ours, theirs in zip(team, expected, strict=True):
        assert ours[5:] == pytest.approx(theirs[5:], abs=1e-6)


@settings(max_examples=40)
@given(conversations, businesses)
def test_days_hours_and_states_are_counted_by_the_clock_on_the_wall(
    lines: Lines, business: Business
) -> None:
    """Whatever the time zone; each message once."""
    messages = said(lines)
    now = START + timedelta(days=60)
    model.say(messages, now, business)
    local = [(one, one.at.astimezone(business.zone)) for one in messages if one.at]
    rows = model.rows(
        "message_id, local_at, local_date, local_hour, in_business_hours", "fct_messages"
    )
    assert rows == [
        (f"m{n:05}", at.replace(tzinfo=None), at.date(), at.hour, business.is_open(at))
        for n, (_, at) in enumerate(local)
    ]
    load = Counter((at.isoweekday(), at.hour) for one, at in local if one.who == "user")
    found = model.rows("local_weekday, local_hour, customer_messages", "fct_hourly_load")
    assert {row[:2]: row[2] for row in found if row[2]} == load
    ours = [(at.date(), one.status) for one, at in local if one.who in {"bot", "human"}]
    delivery = model.rows(
        'local_date, sent, delivered, "read", failed, unknown', "fct_delivery_daily"
    )
    assert delivery == [
        (
            day,
            sum(status in {"sent", "delivered", "read"} for status in states),
            sum(status in {"delivered", "read"} for status in states),
            states.count("read"),
            states.count("failed"),
            states.count(None) + states.count("odd"),
        )
        for day in sorted({day for day, _ in ours})
        for states in [[status for other, status in ours if other == day]]
    ]
    team = Counter(
        (at.date(), one.assignee or "unassigned") for one, at in local if one.who == "human"
    )
    assert dict(team) == {
        row[:2]: row[2] for row in model.rows("local_date, assignee, messages", "fct_agent_daily")
    }
