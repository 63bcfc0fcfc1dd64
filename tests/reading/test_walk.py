"""Walks over a listing that changes between any two pages: the next quiet sync equals the truth."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowiq_source.api.answers import Page
from flowiq_source.api.in_flight import result_of
from flowiq_source.errors import ServerError
from flowiq_source.reading.walk import Cursor, Task, lookback_start, read_conversation
from flowiq_source.rows.arrow import Origin, map_page, message_table, read_rows

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
PAGE = 4


@dataclass
class Api:
    """A conversation of messages, newest first; `script` acts before each page is answered."""

    with_ids: bool
    messages: list[dict[str, Any]] = field(default_factory=list)
    script: Iterator[list[Callable[["Api"], None]]] = field(default_factory=lambda: iter([]))
    made: int = 0
    newest: int = 0

    def add(self, minute: int, text: str) -> None:
        """A message at a minute; of equal minutes the later one comes first."""
        self.made += 1
        self.newest = max(self.newest, minute)
        raw = {"timestamp": (BEGIN + minute * MINUTE).isoformat(), "content": text}
        if self.with_ids:
            raw["id"] = f"m{self.made}"
        self.messages.insert(0, raw)
        self.messages.sort(key=lambda m: m["timestamp"], reverse=True)

    async def page(self, number: int) -> Page:
        """One page, after whatever happens just before it."""
        for act in next(self.script, []):
            act(self)
        start = (number - 1) * PAGE
        rows = self.messages[start : start + PAGE]
        read = read_rows(json.dumps(rows).encode())
        return Page(read, len(self.messages), start + PAGE < len(self.messages))

    def truth(self) -> Counter[str]:
        """What somebody would see who read everything now."""
        return Counter(f"{m['timestamp']} {m['content']}" for m in self.messages)


@dataclass
class Sync:
    """The syncs of one conversation into a table."""

    api: Api
    lookback: timedelta = 5 * MINUTE
    cursor: Cursor | None = None
    table: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock: Iterator[int] = field(default_factory=itertools.count)

    def run(self) -> str:
        """Read, merge, move the cursor; the status."""
        task = Task(
            fetch=self.api.page,
            map_page=lambda raws, at: map_page(raws, Origin("t", "c", "w", at)),
            started_at=BEGIN + timedelta(days=300),
            now=lambda: BEGIN + timedelta(days=365, seconds=next(self.clock)),
            since=lookback_start(self.cursor, self.lookback),
            cursor=self.cursor,
        )
        reading = result_of(read_conversation(task))
        flat = message_table(reading.pages).to_pylist()
        rows = flat + [mapped.row for mapped in reading.mapped]
        assert len({row["id"] for row in rows}) == len(rows) == reading.rows
        self.table |= {row["id"]: row for row in rows}
        self.cursor = reading.cursor or self.cursor
        return reading.status

    def live(self) -> Counter[str]:
        """The rows that the last rescan did not miss."""
        assert self.cursor is not None
        return Counter(
            f"{row['timestamp'].isoformat()} {row['content']}"
            for row in self.table.values()
            if row["synced_at"] >= self.cursor.rescanned_at
        )


def arrive(text: str, minutes: int = 1) -> Callable[[Api], None]:
    """A message so many minutes after the newest that there ever was."""
    return lambda api: api.add(api.newest + minutes, text)


def come_late(minute: int) -> Callable[[Api], None]:
    """A message with an old time."""
    return lambda api: api.add(minute, "late")


def vanish(position: int) -> Callable[[Api], None]:
    """A message is deleted."""

    def act(api: Api) -> None:
        if api.messages:
            del api.messages[position % len(api.messages)]

    return act


NEWER = st.sampled_from("ab").map(arrive)
# Between two looks a deletion and a message that is not newer than the newest cancel out in the
# count, which is all that the API offers: the one case that only a rescan finds. So a history
# has either.
LATE = st.one_of(NEWER, st.just(arrive("a", minutes=0)), st.integers(0, 30).map(come_late))
DELETED = st.one_of(NEWER, st.integers(0, 40).map(vanish))


def histories(acts: st.SearchStrategy[Callable[[Api], None]]) -> st.SearchStrategy[Any]:
    """For every page that will be asked for, what happens just before it."""
    return st.lists(st.lists(acts, max_size=2), max_size=25)


@pytest.mark.parametrize("with_ids", [True, False])
@settings(deadline=None, max_examples=500)
@given(
    start=st.lists(st.tuples(st.integers(0, 30), st.sampled_from("aab")), max_size=25),
    history=st.one_of(histories(LATE), histories(DELETED)),
)
@example(start=[(1, "a")] * 9, history=[[], [arrive("a", 0)], [], [arrive("b")]])
def test_the_next_quiet_sync_equals_the_truth(
    with_ids: bool, start: list[tuple[int, str]], history: list[list[Callable[[Api], None]]]
) -> None:
    """Messages arrive, come late and vanish between any two pages; equal ones lie at borders."""
    api = Api(with_ids)
    for minute, text in start:
        api.add(minute, text)
    sync = Sync(api)
    sync.run()
    api.script = iter(history)
    for _ in range(3):
        sync.run()
    api.script = iter([])
    assert sync.run() == "complete"
    assert sync.live() == api.truth()


@pytest.mark.parametrize("with_ids", [True, False])
def test_a_count_that_sinks_during_a_pass_is_not_trusted(with_ids: bool) -> None:
    """A deletion hides a row at a border, a late message makes the count come true again."""
    api = Api(with_ids)
    for minute in range(12):
        api.add(minute, "a")
    api.script = iter([[], [vanish(0)], [come_late(0)]])
    sync = Sync(api)
    assert sync.run() == "complete"
    assert sync.live() == api.truth()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 30), st.integers(1, 60))
def test_an_unchanged_conversation_costs_the_pages_of_the_lookback(
    count: int, minutes: int
) -> None:
    """Pages up to the first one that ends before the cursor less the lookback, at least one."""
    api = Api(with_ids=True)
    for minute in range(count):
        api.add(minute, "a")
    sync = Sync(api, lookback=minutes * MINUTE)
    sync.run()
    asked: list[int] = []
    page = api.page
    api.page = lambda number: asked.append(number) or page(number)  # type: ignore[method-assign, func-returns-value]
    sync.run()
    in_lookback = min(count, minutes + 1)
    assert asked == list(range(1, max(1, -(-min(count, in_lookback + 1) // PAGE)) + 1))


def test_an_error_in_the_middle_keeps_the_cursor() -> None:
    """And the rows of the pages before it."""
    api = Api(with_ids=True)
    for minute in range(10):
        api.add(minute, "a")
    sync = Sync(api)
    sync.run()
    before = sync.cursor

    def fail(_: Api) -> None:
        raise ServerError("no")

    for minute in range(10, 20):
        api.add(minute, "b")
    api.script = iter([[], [fail]])
    assert sync.run() == "failed"
    assert sync.cursor == before
    assert len(sync.table) == 14


@pytest.mark.parametrize("year", [1, 9999])
def test_the_ends_of_time_are_no_error(year: int) -> None:
    """A cursor in the year 1 less the lookback is the beginning."""
    api = Api(with_ids=True)
    api.messages = [
        {"id": str(n), "content": "a", "timestamp": f"{year:04d}-01-01T00:00:00Z"}
        for n in range(10)
    ]
    sync = Sync(api, lookback=timedelta(days=7))
    assert [sync.run() for _ in range(2)] == ["complete", "complete"]
    assert sync.live() == Counter({f"{year:04d}-01-01T00:00:00+00:00 a": 10})
