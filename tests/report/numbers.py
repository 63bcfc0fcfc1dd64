"""Numbers of a report, made up; tests change what they are about."""

from datetime import date, datetime, timedelta, timezone
from typing import Any

from flowiq_source.report.numbers import (
    Agent,
    Answers,
    Backlog,
    Delivery,
    Load,
    Numbers,
    Reaction,
    Volume,
    Window,
)
from flowiq_source.status import Status
from flowiq_source.verify import Verification

NOW = datetime(2026, 3, 3, 8, tzinfo=timezone.utc)
MONDAY = date(2026, 2, 23)


def nothing(**changes: Any) -> Numbers:
    """Of an empty account."""
    facts: dict[str, Any] = {
        "tenant": "",
        "version": "0.0",
        "as_of": NOW,
        "first_day": date(2025, 12, 4),
        "last_day": NOW.date(),
        "zone": timezone.utc,
        "zone_name": "UTC",
        "hours": "business hours around the clock",
        "status": Status({}, conversations={}),
        "verification": Verification(0, 0, []),
    }
    return Numbers(**facts | changes)


def something(**changes: Any) -> Numbers:
    """Of an account with a little of everything."""
    weeks = [MONDAY - timedelta(weeks=n) for n in (2, 1, 0)]
    facts: dict[str, Any] = {
        "tenant": "shop",
        "status": Status({"messages": 9}, NOW, NOW, {"complete": 2}),
        "verification": Verification(2, 0, []),
        "volume": [Volume(MONDAY, "customer", 5), Volume(MONDAY, "bot", 4)],
        "load": [Load(1, 9, 5, 3)],
        "totals": [Answers("human", None, 3, 90.0, 900.0, 80.0, 800.0)],
        "weekly": [Answers("human", week, 10, 90.0, 900.0, 80.0, 800.0) for week in weeks],
        "backlog": [Backlog(0, "open", 1), Backlog(3, "closed", 2)],
        "windows": [Window(week, "contained", 2) for week in weeks],
        "delivery": Delivery(10, 9, 5, 1),
        "agents": [
            Agent("one", 4, 2, 60.0, 70.0, 80.0),
            Agent("unassigned", 1, 1, None, None, None),
        ],
        "reactions": [Reaction("👍", 3), Reaction("❤️", 1)],
    }
    return nothing(**facts | changes)
