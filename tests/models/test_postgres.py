"""The same messages in DuckDB and in PostgreSQL: the models give the same rows."""

import random
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from flowiq_source.models.definitions import models
from tests.support.destinations import NEEDS_POSTGRES
from tests.support.modelled import OFFICE, Business, Said, in_memory, in_postgres

pytestmark = NEEDS_POSTGRES

NOW = datetime(2026, 4, 20, 12, tzinfo=timezone.utc)
NEW_YORK = Business(
    ZoneInfo("America/New_York"),
    [*OFFICE[:5], [(22 * 60, 27 * 60)], []],
    frozenset({date(2026, 4, 3)}),
)


def invented(count: int) -> list[Said]:
    """Messages of seven conversations over both changes of the clock, some at the same instant."""
    dice = random.Random(7)
    at = datetime(2026, 2, 20, tzinfo=timezone.utc)
    found = []
    for _ in range(count):
        at += timedelta(microseconds=dice.choice([0, 1, 1_000_000, 90_500_000, 7_000_000_000]))
        found.append(
            Said(
                at if dice.random() < 0.99 else None,
                dice.choice(["user", "user", "user", "bot", "bot", "human", "system"]),
                f"c{dice.randrange(7)}",
                status=dice.choice(["sent", "delivered", "read", "failed", None]),
                assignee=dice.choice(["ann", "bob", None]),
                suffix=dice.choice(["-whatsapp", "-web"]),
            )
        )
    return found


def rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """With seconds to the microsecond."""
    return [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in rows]


def test_every_model_gives_the_same_rows() -> None:
    """All columns of all rows, in order of the key."""
    messages = invented(1500)
    here = in_memory()
    here.say(messages, NOW, NEW_YORK, paused=["c1", "c2"])
    with in_postgres() as there:
        there.say(messages, NOW, NEW_YORK, paused=["c1", "c2"])
        for model in models():
            columns = ", ".join(
                [*model.key, *(one for one in model.columns if one not in model.key)]
            )
            ours = rounded(here.rows(columns, model.name))
            assert ours
            assert rounded(there.rows(columns, model.name)) == ours
            keys = [row[: len(model.key)] for row in ours]
            assert len(set(keys)) == len(keys)
