"""Whatever a field holds that nobody documented, and whatever comes after: loaded, unchanged."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowiq_source import flowiq_source, sync
from flowiq_source.sandbox import Contact, Sandbox, World
from tests.support.destinations import DESTINATIONS, Destination

LIKE_SOMETHING_ELSE = [
    *("2026-01-01T00:00:00Z", "2026-01-01", "12:00:00", "1767225600", "20260101T000000"),
    *("true", "no", "null", "NaN", "-0", "007", "1_000", "1e999", "0x1F", "٣٤", "1,5", "", " "),
    *("{}", "[1]", '"quoted"', "\\N", "a\tb\nc", "a,b;c", "NULL", "'", "\\"),
]
ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(LIKE_SOMETHING_ELSE),
        st.text(max_size=8),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)
PAIRS = st.lists(st.tuples(ANYTHING, ANYTHING), min_size=40, max_size=60)
"""What a field holds at first, and what later; many at a time, because a run takes a second."""

OVERFLOWING: list[tuple[Any, Any]] = [
    ("2026-01-01T00:00:00Z", "0001-01-01T00:00:00+02:00"),
    ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999-03:00"),
    (1, 1767225600000000000),
    (1, "0x52908400098527886E0F7030069857D2E4169EE7"),
    (1, "٣" * 21),
    (1, 1e19),
    (1, "0821234567"),
    (1.5, "1_0"),
    (1.5, 9007199254740993),
    (1, True),
]
"""What does not fit the type that the first one suggests, or would become another value in it."""

Run = Callable[[dlt.Pipeline, Any], Any]


def run(pipeline: dlt.Pipeline, source: Any) -> None:
    """As a dlt user runs any source."""
    pipeline.run(source)


def storable(value: Any) -> Any:
    """The value with U+FFFD for what no warehouse can hold."""
    if isinstance(value, str):
        return re.sub("[\0\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    return value


def is_kept(value: Any, stored: str | None) -> bool:
    """Whether a column holds the value: text as it is, everything else as JSON, nothing as null."""
    if value is None or isinstance(value, str):
        return bool(stored == storable(value))
    return stored is not None and bool(json.loads(stored) == storable(value))


class Account:
    """A contact with two messages, the second with a reaction; all of them with the same fields."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.contact: Contact = sandbox.world.add_contact("27820000001")
        for at in (1, 2):
            sandbox.world.add_message(self.contact, content=f"message {at}")

    def show(self, values: list[Any]) -> None:
        """Have every row show these values."""
        fields = {f"extra_{n}": value for n, value in enumerate(values)}
        flat, reacted = self.contact.messages
        self.contact.extra = flat.extra = reacted.extra = fields
        reacted.reactions = [{"emoji": "👍", "sender": "1", **fields}]
        self.sandbox.world.advance(timedelta(minutes=1))

    def source(self, backend: Any) -> Any:
        """The source of the account."""
        return flowiq_source(
            bearer_token=self.sandbox.token,
            tenant_id=self.sandbox.tenant,
            base_url=self.sandbox.url,
            requests_per_minute=1e6,
            backend=backend,
        )


def stored(pipeline: dlt.Pipeline, table: str) -> list[dict[str, Any]]:
    """The rows of a table."""
    with pipeline.sql_client() as client:
        name = client.make_qualified_table_name(table)
        with client.execute_query(f"SELECT * FROM {name}") as cursor:
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


TABLES = {"contacts": 1, "messages": 2, "messages__reactions": 1}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """An API that many examples share, each with a world of its own."""
    with Sandbox(World(contacts=0), limited=False) as running:
        yield running


@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize(("backend", "load"), [("rows", run), ("pyarrow", sync)])
@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pairs=PAIRS)
@example(pairs=OVERFLOWING)
def test_any_value_after_any_other_is_read_back_unchanged(
    sandbox: Sandbox, destination: Destination, backend: str, load: Run, pairs: list[Any]
) -> None:
    """In contacts, messages and reactions; also when the state came back from the destination."""
    sandbox.world = World(contacts=0)
    account = Account(sandbox)
    with tempfile.TemporaryDirectory() as folder, destination(Path(folder)) as pipeline:
        for turn in (0, 1, 0):
            values = [pair[turn] for pair in pairs]
            account.show(values)
            load(pipeline(), account.source(backend))
            for table, count in TABLES.items():
                rows = stored(pipeline(), table)
                assert len(rows) == count
                for row in rows:
                    for n, value in enumerate(values):
                        assert is_kept(value, row.get(f"extra_{n}")), (table, n, value)
            shutil.rmtree(Path(folder, "pipelines"))


@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize(("backend", "load"), [("rows", run), ("pyarrow", sync)])
def test_more_fields_than_a_table_can_have_are_kept(
    sandbox: Sandbox, destination: Destination, backend: str, load: Run, tmp_path: Path
) -> None:
    """1,700 of them, twice, the second time by other names: PostgreSQL has 1,600 columns."""
    account = Account(sandbox)
    with destination(tmp_path) as pipeline:
        for turn in range(2):
            account.show([])
            fields = {f"field {turn} {chr(97 + n % 26)} {n // 26}": n for n in range(1700)}
            flat, reacted = account.contact.messages
            account.contact.extra = flat.extra = reacted.extra = fields
            reacted.reactions[0] |= fields
            load(pipeline(), account.source(backend))
            for table, count in TABLES.items():
                rows = stored(pipeline(), table)
                assert len(rows) == count
                for row in rows:
                    others = json.loads(row["undocumented"])
                    columns = {k: v for k, v in row.items() if k.startswith("field_") and v}
                    assert len(others) + len(columns) == 1700
                    assert {*map(int, columns.values()), *others.values()} == set(range(1700))
