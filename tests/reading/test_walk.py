"""Walks over a listing that changes between any two pages: the next quiet sync equals the truth."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowiq_source.api.answers import Page
from flowiq_source.errors import FlowiqError, NotFound, ServerError
from flowiq_source.reading.conversation import Conversation, ConversationResult, Rules, Task
from flowiq_source.reading.cursor import Cursor
from flowiq_source.reading.passes import PASS_SIZES
from flowiq_source.reading.walk import Ask, MapPage, read_conversation
from flowiq_source.rows.arrow import MappedPage, map_page, message_table, read_rows
from flowiq_source.rows.convert import Origin
from flowiq_source.rows.extras import extra_columns

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
ROWS = dict(zip(PASS_SIZES, range(9, 1, -1), strict=True))
"""How many rows a page of the test has where a walk asks for so many."""
PAGE = ROWS[PASS_SIZES[0]]


@dataclass
class Api:
    """A conversation of messages, newest first; `script` acts before each page is answered."""

    with_ids: bool
    messages: list[dict[str, Any]] = field(default_factory=list)
    script: Iterator[list[Callable[["Api"], None]]] = field(default_factory=lambda: iter([]))
    asked: list[Ask] = field(default_factory=list)
    wrong_by: int | None = 0
    """By how many the count is too high; None where there is none."""
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

    def page(self, ask: Ask) -> Page:
        """One page, after whatever happens just before it."""
        self.asked.append(ask)
        for act in next(self.script, []):
            act(self)
        size = ROWS[ask.size]
        start = (ask.number - 1) * size
        rows = (self.messages[::-1] if ask.ascending else self.messages)[start : start + size]
        more = start + size < len(self.messages)
        text = json.dumps([rows, len(self.messages)])
        total = None if self.wrong_by is None else len(self.messages) + self.wrong_by
        return Page(read_rows(json.dumps(rows).encode()), total, more, text)

    def truth(self) -> Counter[str]:
        """What somebody would see who read everything now."""
        return Counter(f"{m['timestamp']} {m['content']}" for m in self.messages)


def to_page(raws: Sequence[Any], origin: Origin) -> MappedPage:
    """The page as columns where it can be."""
    return map_page(raws, origin, extra_columns(), columnar=True)


CONTACT = Conversation("c", "w")


def walk(
    task: Task, answer: Callable[[Ask], Page], map_page: MapPage = to_page
) -> Iterator[ConversationResult]:
    """What comes of a conversation whose pages are these, part by part."""
    reading = read_conversation(task, map_page, lambda: BEGIN + timedelta(days=365))
    said: Any = None
    while True:
        try:
            asked = reading.throw(said) if isinstance(said, Exception) else reading.send(said)
        except StopIteration:
            return
        if isinstance(asked, ConversationResult):
            said = None
            yield asked
            continue
        try:
            said = answer(asked)
        except Exception as error:
            said = error


@dataclass
class Sync:
    """The syncs of one conversation into a table."""

    api: Api
    lookback: timedelta = 5 * MINUTE
    part_rows: int = 10**6
    cursor: Cursor = field(default_factory=Cursor)
    table: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: list[ConversationResult] = field(default_factory=list)
    number: int = 0

    def run(
        self,
        parts: int | None = None,
        *,
        whole: bool = False,
        map_page: MapPage = to_page,
        **changes: Any,
    ) -> str:
        """Read, merge, move the cursor; the status. `parts` are read before the run breaks off."""
        self.number += 1
        self.api.asked.clear()
        rules = replace(
            Rules(
                run=self.number,
                started_at=BEGIN + timedelta(days=300),
                lookback=self.lookback,
                part_rows=self.part_rows,
            ),
            **changes,
        )
        self.results = []
        for result in walk(Task(CONTACT, self.cursor, rules, whole), self.api.page, map_page):
            self.results.append(result)
            self._merge(result)
            believed = result.confirmed or result
            self.cursor = believed.cursor or self.cursor
            if len(self.results) == parts:
                break
        return believed.status

    def _merge(self, result: ConversationResult) -> None:
        flat = message_table(result.pages).to_pylist()
        rows = flat + [mapped.row for mapped in result.mapped]
        assert len({row["id"] for row in rows}) == len(rows) == result.rows
        self.table |= {row["id"]: row for row in rows}

    def live(self) -> Counter[str]:
        """The rows that are not gone."""
        return Counter(
            f"{row['timestamp'].isoformat()} {row['content']}"
            for row in self.table.values()
            if row["scan"] >= self.cursor.scan
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
@example(
    start=[(0, "a")] * 9 + [(1, "a"), (5, "a")],
    history=[[vanish(0)], [arrive("a"), vanish(1)]],
)
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
def test_a_conversation_with_news_costs_the_pages_of_the_lookback(count: int, minutes: int) -> None:
    """Pages up to the first whose last two rows lie before the cursor less the lookback."""
    api = Api(with_ids=True)
    for minute in range(count):
        api.add(minute, "a")
    sync = Sync(api, lookback=minutes * MINUTE)
    sync.run()
    sync.run()
    assert len(api.asked) == 1
    api.add(count, "news")
    sync.run()
    # The two rows at the end of a page, the newest of which is older than the lookback.
    needed = minutes + 1 + 1 + 2 if count else 1
    assert len(api.asked) == -(-min(count + 1, needed) // PAGE)
    assert sync.live() == api.truth()


def test_an_error_in_the_middle_keeps_the_cursor() -> None:
    """And the rows of the pages before it; the number of the reading is used up."""
    api = Api(with_ids=True)
    for minute in range(20):
        api.add(minute, "a")
    sync = Sync(api, lookback=60 * MINUTE)
    sync.run()
    before = sync.cursor

    def fail(_: Api) -> None:
        raise ServerError("no")

    for minute in range(20, 40):
        api.add(minute, "b")
    api.script = iter([[], [fail]])
    assert sync.run() == "failed"
    assert sync.cursor == before._replace(used=before.used + 1, run=before.run + 1, failed=True)
    assert len(sync.table) == 20 + PAGE
    sync.run()
    assert sync.live() == api.truth()


def test_what_nobody_foresaw_fails_one_conversation_and_quotes_nothing() -> None:
    """In the mapping of a row, or in the client; the error says where."""
    api = Api(with_ids=True)
    api.add(1, "a")

    def refuse(*_: Any) -> MappedPage:
        raise TypeError("27820000001 is secret")

    sync = Sync(api)
    assert sync.run(map_page=refuse) == "failed"
    error = sync.results[0].error or ""
    assert "TypeError in test_walk.py" in error
    assert "secret" not in error

    def fall(_: Api) -> None:
        raise KeyError("secret")

    api.script = iter([[fall]])
    assert sync.run() == "failed"
    assert "secret" not in (sync.results[0].error or "")
    assert sync.run() == "complete"


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


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("wrong_by", [-1, 1, 1000])
def test_a_count_that_never_comes_true_is_no_endless_price(with_ids: bool, wrong_by: int) -> None:
    """Two passes that agree are the truth; then it is known, and news cost what they cost."""
    api = Api(with_ids, wrong_by=wrong_by)
    for minute in range(30):
        api.add(minute, "a")
    sync = Sync(api)
    assert sync.run() == "complete"
    assert (sync.cursor.known, sync.cursor.surplus) == (30, wrong_by)
    for news in (0, 1):
        for _ in range(news):
            api.add(api.newest + 1, "news")
        assert sync.run() == "complete"
        assert len(api.asked) == 1
    assert sync.run(whole=True) == "complete"
    assert len(api.asked) == -(-31 // PAGE)
    assert (sync.live(), sync.cursor.surplus) == (api.truth(), wrong_by)


@pytest.mark.parametrize("part_rows", [10**6, 20])
def test_an_id_handed_out_twice_is_one_row(part_rows: int) -> None:
    """The count is too high by one, for good."""
    api = Api(with_ids=True)
    for minute in range(40):
        api.add(minute, "a")
    api.messages[35] = dict(api.messages[25], timestamp=api.messages[35]["timestamp"])
    sync = Sync(api, part_rows=part_rows)
    assert sync.run() == "complete"
    assert (len(sync.table), sync.cursor.known, sync.cursor.surplus) == (39, 39, 1)
    assert sync.run() == "complete"
    assert len(api.asked) == 1


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("size", [2, 6, 14])
@pytest.mark.parametrize("seed", range(10))
def test_equal_times_in_another_order_with_every_request(
    with_ids: bool, size: int, seed: int
) -> None:
    """Each row is loaded once, in the first sync and in the following ones."""
    random = Random(seed)
    api = Api(with_ids)
    for n in range(35):
        minute = 10 if 4 <= n < 4 + size else n
        api.add(minute, f"text {n}")

    def shuffle(api: Api) -> None:
        random.shuffle(api.messages)
        api.messages.sort(key=lambda m: m["timestamp"], reverse=True)

    api.script = itertools.repeat([shuffle])
    sync = Sync(api, lookback=timedelta(days=1))
    for _ in range(3):
        assert sync.run() == "complete"
        assert sync.live() == api.truth()
        assert len(sync.table) == 35


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("size", [2, 12, 30])
def test_rows_that_are_equal_in_everything_are_no_alarm(with_ids: bool, size: int) -> None:
    """However many there are, and wherever the borders of pages lie."""
    api = Api(with_ids)
    for n in range(7 + size):
        api.add(10 if n >= 7 else n, "same")
    sync = Sync(api)
    assert sync.run() == "complete"
    assert sync.live() == api.truth()
    sync.run()
    assert len(api.asked) == 1


@pytest.mark.parametrize("with_ids", [True, False])
def test_one_comes_and_another_goes_between_two_pages(with_ids: bool) -> None:
    """A page that begins with the last page's last row is read again, though the count stands."""
    for position in range(30):
        api = Api(with_ids)
        for minute in range(30):
            api.add(minute, f"text {minute}")
        api.script = iter([[], [vanish(position), arrive("b")]])
        sync = Sync(api)
        sync.run()
        sync.run()
        assert sync.live() == api.truth()
        assert len(sync.table) in (30, 31)


@pytest.mark.parametrize("with_ids", [True, False])
def test_rows_that_only_an_earlier_pass_saw_are_written(with_ids: bool) -> None:
    """Passes that miss different rows are right together; twins keep their own ids."""
    api = Api(with_ids)
    for n in range(30):
        api.add(n // 2, "same")
    page, missed = api.page, iter([3, 17])

    def hide(ask: Ask) -> Page:
        got = page(ask)
        if ask.number == 2 and (at := next(missed, None)) is not None:
            del got.rows[at % len(got.rows)]
        return got

    api.page = hide  # type: ignore[method-assign]
    sync = Sync(api)
    assert sync.run() == "complete"
    assert sync.live() == api.truth()


@pytest.mark.parametrize("with_ids", [True, False])
@settings(deadline=None, max_examples=200)
@given(
    start=st.lists(st.tuples(st.integers(0, 12), st.sampled_from("aab")), min_size=11, max_size=60),
    part_rows=st.integers(1, 25),
    breaks=st.integers(1, 4),
)
def test_parts_make_the_same_rows_as_a_reading_in_one(
    with_ids: bool, start: list[tuple[int, str]], part_rows: int, breaks: int
) -> None:
    """With the same ids, wherever the borders lie, also if the run breaks off after a part."""
    api = Api(with_ids)
    for minute, text in start:
        api.add(minute, text)
    whole, parts = Sync(api), Sync(api, part_rows=part_rows)
    whole.run()
    parts.run(parts=breaks)
    assert parts.run() == "complete"

    def rows(sync: Sync) -> dict[str, Any]:
        return {key: (row["timestamp"], row["content"]) for key, row in sync.table.items()}

    assert rows(parts) == rows(whole)
    assert parts.live() == whole.live() == api.truth()
    assert parts.cursor.known == whole.cursor.known
    parts.run()
    assert len(api.asked) == 1


@pytest.mark.parametrize("with_ids", [True, False])
@settings(deadline=None, max_examples=300)
@given(
    start=st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=12, max_size=60),
    history=st.one_of(
        st.lists(st.lists(NEWER, max_size=2), max_size=25),
        st.lists(st.lists(st.integers(0, 40).map(vanish), max_size=1), max_size=8),
    ),
)
def test_a_long_conversation_that_changes_while_it_is_read_is_right_in_the_end(
    with_ids: bool, start: list[tuple[int, str]], history: list[list[Callable[[Api], None]]]
) -> None:
    """Arrivals shift no page; after a deletion it is read again."""
    api = Api(with_ids)
    for minute, text in start:
        api.add(minute, text)
    sync = Sync(api, part_rows=11)
    api.script = iter(history)
    for _ in range(3):
        sync.run()
    api.script = iter([])
    assert sync.run() == "complete"
    assert sync.live() == api.truth()


def test_a_part_holds_no_more_than_it_may() -> None:
    """And a run that breaks off repeats no part that was kept."""
    api = Api(with_ids=True)
    for minute in range(200):
        api.add(minute, "a")
    sync = Sync(api, part_rows=3 * PAGE)
    sync.run(parts=3)
    assert [result.rows for result in sync.results] == [3 * PAGE] * 3
    sync.run()
    assert api.asked[0] == Ask(10, ascending=True)
    assert max(result.rows for result in sync.results) <= 3 * PAGE
    assert sync.live() == api.truth()


def test_a_long_conversation_without_a_count_is_read_once() -> None:
    """Nothing says that rows are missing; and where it ended is where the next one begins."""
    api = Api(with_ids=True, wrong_by=None)
    for minute in range(100):
        api.add(minute, "a")
    sync = Sync(api, part_rows=3 * PAGE)
    sync.run(parts=2)
    api.asked.clear()
    assert sync.run() == "complete"
    assert len(api.asked) == -(-100 // PAGE) - 6
    assert (sync.live(), sync.cursor.surplus) == (api.truth(), 0)


def test_a_long_conversation_is_asked_for_the_other_way_once() -> None:
    """Its other parts begin with the way that worked."""
    api = Api(with_ids=True)
    for minute in range(100):
        api.add(minute, "a")
    ways = Counter[int]()

    def answer(ask: Ask) -> Page:
        ways[ask.way] += 1
        if ask.way == 0:
            raise NotFound("no")
        return api.page(ask)

    contact = Conversation("c", "w", [{"contactId": "c"}, {"whatsappNumber": "w"}])
    rules = Rules(run=1, started_at=BEGIN, lookback=MINUTE, part_rows=2 * PAGE)
    results = list(walk(Task(contact, Cursor(), rules), answer))
    assert (sum(one.rows for one in results), results[-1].status) == (100, "complete")
    assert (len(results) > 3, ways[0]) == (True, 1)


@pytest.mark.parametrize("part_rows", [10**6, 20])
@pytest.mark.parametrize("wrong_by", [0, None])
@pytest.mark.parametrize("new_rows", [True, False])
def test_a_list_without_an_end_ends(
    part_rows: int, wrong_by: int | None, new_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded by the API's own count, and where there is none by what no conversation has."""
    monkeypatch.setattr("flowiq_source.reading.passes.MOST_PAGES", 200)
    numbers = itertools.count()
    asked = []

    def answer(ask: Ask) -> Page:
        asked.append(ask)
        rows = [{"id": f"m{next(numbers) if new_rows else n}", "content": "a"} for n in range(9)]
        return Page(read_rows(json.dumps(rows).encode()), None if wrong_by is None else 25, True)

    rules = Rules(run=1, started_at=BEGIN, lookback=MINUTE, part_rows=part_rows)
    *_, result = walk(Task(CONTACT, Cursor(), rules), answer)
    assert result.status == "failed"
    assert len(asked) <= 2 * 200 + 10


def seen(sync: Sync) -> tuple[str, bool]:
    """The status of the last result, and whether it says that something vanished."""
    return sync.results[-1].status, sync.results[-1].confirmed is not None


@pytest.mark.parametrize("answer", ["404", "empty", "one", "short"])
def test_what_shows_far_less_than_was_known_is_doubtful_before_it_is_gone(answer: str) -> None:
    """Only a later run that sees the same says that it has vanished; a healthy one forgets it."""
    api = Api(with_ids=True)
    for minute in range(30):
        api.add(minute, "a")
    sync = Sync(api)
    sync.run()
    kept = api.messages

    def fail(_: Api) -> None:
        raise NotFound("no such conversation")

    def break_it() -> None:
        api.messages = kept[: {"empty": 0, "one": 1, "short": 14}.get(answer, 30)]
        api.script = itertools.repeat([fail]) if answer == "404" else iter([])

    for _ in range(2):
        before = sync.cursor
        break_it()
        sync.run()
        assert seen(sync) == ("doubtful", False)
        assert (sync.cursor.known, sync.cursor.scan) == (30, before.scan)
        api.messages, api.script = kept, iter([])
        assert sync.run() == "complete"
        assert sync.live() == api.truth()
    break_it()
    sync.run()
    sync.run(run=sync.number)
    assert seen(sync) == ("doubtful", False), "the same run is no second witness"
    sync.run()
    assert seen(sync) == ("doubtful", True)
    assert sync.results[-1].cursor != sync.cursor, "if it is not believed, another one counts"


def test_a_conversation_is_asked_for_the_other_way_where_one_finds_nothing() -> None:
    """A 404 always; an empty list if there must be messages."""
    api = Api(with_ids=True)
    api.add(1, "a")

    def answer(ask: Ask, empty: bool) -> Page:
        if ask.way == 0:
            if empty:
                return Page([], 0, more=False)
            raise NotFound("no")
        return api.page(ask)

    for empty, expects, rows in [(False, False, 1), (True, True, 1), (True, False, 0)]:
        api.asked.clear()
        contact = Conversation("c", "w", [{"contactId": "c"}, {"whatsappNumber": "w"}])
        rules = Rules(run=1, started_at=BEGIN + timedelta(days=1), lookback=MINUTE)
        task = Task(contact._replace(unread=expects), Cursor(), rules)
        [result] = walk(task, lambda ask, empty=empty: answer(ask, empty))  # type: ignore[misc]
        assert (result.status, result.rows) == ("complete", rows)


def test_a_backfill_ends_only_with_a_page_that_is_older_all_through() -> None:
    """A late message stands where it arrived."""
    api = Api(with_ids=True)
    for minute in range(60):
        api.add(minute, "a")
    late = api.messages.pop(50)
    api.messages.insert(3, late)
    api.messages.insert(PAGE - 1, api.messages.pop(45))
    sync = Sync(api)
    assert sync.run(backfill_from=BEGIN + 30 * MINUTE) == "complete"
    got = {row["timestamp"] for row in sync.table.values()}
    assert {BEGIN + minute * MINUTE for minute in range(30, 60)} <= got
    assert len(api.asked) < 60 // PAGE
    assert sync.cursor == Cursor()


def test_what_a_walk_raises_is_told_by_its_class() -> None:
    """The texts of the API's errors are kept: they hold nothing personal."""
    api = Api(with_ids=True)

    def fail(_: Api) -> None:
        raise FlowiqError("reading a conversation, page 1: HTTP 500: run again later")

    api.script = iter([[fail]])
    sync = Sync(api)
    assert sync.run() == "failed"
    assert sync.results[0].error == "reading a conversation, page 1: HTTP 500: run again later"
    assert sync.results[0].synced_at > BEGIN
