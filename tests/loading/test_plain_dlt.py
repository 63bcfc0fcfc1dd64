"""What a dlt user's habits make of the source: each with `pipeline.run`, and with `sync` too."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source import FlowiqError, FlowiqSource, flowiq_source, plan, sync, verify
from flowiq_source.loading import feed
from flowiq_source.rows.arrow import message_table
from flowiq_source.rows.columns import MESSAGE, OUR_COLUMNS
from flowiq_source.sandbox import Contact, Sandbox, World
from tests.support.history import DAY, answer_with, expected, loaded, message_requests, write
from tests.support.warehouse import Warehouse

Load = Callable[[dlt.Pipeline, Any], Any]


def run(pipeline: dlt.Pipeline, data: Any) -> None:
    """As a dlt user runs any source."""
    pipeline.run(data)


WAYS = pytest.mark.parametrize("load", [run, sync], ids=["run", "sync"])


@pytest.fixture
def three(sandbox: Sandbox) -> list[Contact]:
    """Three contacts with three messages each, the newest with a reaction."""
    contacts = [sandbox.world.add_contact(f"2782000000{n}") for n in range(3)]
    for contact in contacts:
        write(sandbox, contact, 3)
        contact.messages[-1].reactions = [{"emoji": "👍", "sender": "1"}]
    contacts[0].tags = ["vip"]
    return contacts


def count(warehouse: Warehouse, table: str = "messages", dataset: str = "flowiq") -> Any:
    """How many rows a table has."""
    return warehouse.one(f"SELECT count(*) FROM {dataset}.{table}")


def tables(warehouse: Warehouse) -> list[str]:
    """The datasets' tables and views, staging and dlt's own left out."""
    rows = warehouse.query(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables "
        "WHERE table_name NOT LIKE '\\_dlt%' ESCAPE '\\' AND table_schema NOT LIKE '%staging' "
        "ORDER BY 1"
    )
    return [name for (name,) in rows]


@WAYS
def test_a_step_sees_every_column_of_every_row(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], load: Load
) -> None:
    """As keys of a dict, also where there is no value."""
    source, seen = warehouse.source(sandbox), list[set[str]]()
    source.messages.add_map(lambda row: seen.append(set(row)) or row)  # type: ignore[func-returns-value]
    load(warehouse.pipeline, source)
    assert len(seen) == 9
    assert all(keys >= {*MESSAGE, *OUR_COLUMNS} for keys in seen)


def masked(row: dict[str, Any]) -> dict[str, Any]:
    """The row without what was said."""
    return row | {"content": None}


STEPS: dict[str, Callable[[Any], Any]] = {
    "add_map": lambda messages: messages.add_map(masked),
    "add_yield_map": lambda messages: messages.add_yield_map(lambda row: iter([masked(row)])),
    "add_step": lambda messages: messages.add_step(lambda rows: [masked(row) for row in rows]),
}


@WAYS
@pytest.mark.parametrize("step", STEPS)
def test_a_step_masks_all_contents(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], load: Load, step: str
) -> None:
    """However it is added."""
    source = warehouse.source(sandbox)
    STEPS[step](source.messages)
    load(warehouse.pipeline, source)
    assert warehouse.query("SELECT count(*), count(content) FROM flowiq.messages") == [(9, 0)]


@WAYS
def test_a_filter_keeps_what_it_lets_through(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], load: Load
) -> None:
    """By any column, also one that is null in every row."""
    source = warehouse.source(sandbox)
    source.messages.add_filter(lambda row: row["media_url"] is None and "2" in row["content"])
    load(warehouse.pipeline, source)
    assert warehouse.query("SELECT DISTINCT content FROM flowiq.messages") == [("message 2",)]


@WAYS
def test_a_step_on_tables_is_refused(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], load: Load
) -> None:
    """On messages alone: everything else is rows where a step wants them."""
    source = warehouse.source(sandbox, backend="pyarrow")
    source.contacts.add_map(lambda row: row | {"full_name": "masked"})
    source.conversations.add_map(lambda row: row | {"error": "masked"})
    source.conversations.add_filter(lambda row: row["whatsapp_id"] != three[0].number)
    load(warehouse.pipeline, source)
    assert warehouse.query("SELECT DISTINCT full_name FROM flowiq.contacts") == [("masked",)]
    assert warehouse.query("SELECT error FROM flowiq.conversations") == [("masked",)] * 2
    source.messages.add_map(masked)
    with pytest.raises(PipelineStepFailed, match='set it to "rows"'):
        load(warehouse.pipeline, source)


@pytest.mark.parametrize("backend", ["rows", "pyarrow"])
def test_everything_follows_a_renamed_table(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], backend: str
) -> None:
    """Its rows, its child table, the view, the deletion and the verification."""

    def source() -> FlowiqSource:
        renamed = warehouse.source(sandbox, backend=backend)
        renamed.messages.apply_hints(table_name="Chats")
        return renamed

    sync(warehouse.pipeline, source())
    assert {"flowiq.chats", "flowiq.chats__reactions"} < set(tables(warehouse))
    assert "flowiq.messages" not in tables(warehouse)
    sandbox.world.delete_message(three[0], three[0].messages[-1])
    sandbox.world.advance(DAY)
    sync(warehouse.pipeline, source())
    assert [count(warehouse, name) for name in ("chats", "current_messages")] == [9, 8]
    assert verify(warehouse.pipeline, source()).differences == []
    sync(warehouse.pipeline, source(), delete_gone=True)
    assert [count(warehouse, name) for name in ("chats", "chats__reactions")] == [8, 2]
    run(warehouse.pipeline, source())
    assert count(warehouse, "chats") == 8


CLONES: dict[str, Callable[[Warehouse, Sandbox], FlowiqSource]] = {
    "source": lambda warehouse, sandbox: warehouse.source(sandbox).clone(with_name="whats"),
    "factory": lambda warehouse, sandbox: flowiq_source.clone(name="whats")(
        bearer_token=sandbox.token, tenant_id=sandbox.tenant, base_url=sandbox.url
    ),
}


@pytest.mark.parametrize("way", CLONES)
@pytest.mark.parametrize("beside", [False, True])
def test_a_source_by_another_name_is_the_same(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], way: str, beside: bool
) -> None:
    """Alone, and beside one whose schema is the pipeline's default."""
    if beside:
        warehouse.pipeline.run([other(), CLONES[way](warehouse, sandbox)])
        assert warehouse.pipeline.default_schema_name == "other"
    for _ in range(2):
        sync(warehouse.pipeline, CLONES[way](warehouse, sandbox), delete_gone=True)
        assert verify(warehouse.pipeline, CLONES[way](warehouse, sandbox)).differences == []
        assert plan(warehouse.pipeline, CLONES[way](warehouse, sandbox)).new == 0
        total = sum(len(contact.history(sandbox.world.now)) for contact in three)
        assert [count(warehouse, name) for name in ("messages", "current_messages")] == [total] * 2
        sandbox.world.delete_message(three[0], three[0].messages[0])
        sandbox.world.advance(DAY)


@dlt.source(name="other")
def other() -> Any:
    """A source of somebody else's."""
    return dlt.resource([{"a": 1}], name="things")


def test_a_source_can_be_looked_at_without_a_run(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """Any resource by itself, or all for the requests of one; also where a pipeline is active."""
    for _ in range(2):
        source = warehouse.source(sandbox)
        assert [len(list(source.resources[n])) for n in ("messages", "contacts")] == [9, 3]
        assert len(list(source.conversations)) == 3
        sandbox.requests.clear()
        assert len(list(source)) == 9 + 3 * 3 + 1
        assert len(sandbox.requests) == 4
        assert len(list(source.with_resources("contacts", "messages"))) == 12
        warehouse.sync(sandbox)
        warehouse.pipeline.activate()
    assert warehouse.sync(sandbox).newer == 0


def test_a_resource_can_be_run_by_itself(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """Taken out of its source, alone or with others, under its name or another."""
    source = warehouse.source(sandbox)
    for resource in source.resources.values():
        run(warehouse.pipeline, resource)
    run(warehouse.pipeline, [source.contacts, source.conversations])
    run(warehouse.pipeline, [source.with_resources("contacts"), source.with_resources("messages")])
    assert [count(warehouse, n) for n in ("messages", "contacts", "conversations")] == [9, 3, 3]
    assert not any(resource.is_transformer for resource in source.resources.values())


@WAYS
@pytest.mark.parametrize("backend", ["rows", "pyarrow"])
@pytest.mark.parametrize("items", [1, 3])
def test_a_limit_limits_rows_and_requests(
    warehouse: Warehouse, sandbox: Sandbox, load: Load, items: int, backend: str
) -> None:
    """So many pages of contacts, so many conversations; the next run reads the rest."""
    for n in range(120):
        write(sandbox, sandbox.world.add_contact(f"278200{n:05d}"), 2)
    source = warehouse.source(sandbox, backend=backend)
    source.add_limit(items)
    load(warehouse.pipeline, source)
    assert (count(warehouse), count(warehouse, "conversations")) == (2 * items, items)
    assert message_requests(sandbox) == items
    load(warehouse.pipeline, warehouse.source(sandbox))
    assert loaded(warehouse) == expected(sandbox)


@WAYS
def test_a_history_without_a_key_is_refused(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], load: Load
) -> None:
    """Dlt would retire what the next load does not bring again; with a merge key it keeps it."""

    def source(**hints: Any) -> FlowiqSource:
        flowiq = warehouse.source(sandbox)
        history: Any = {"disposition": "merge", "strategy": "scd2"}
        flowiq.messages.apply_hints(write_disposition=history, **hints)
        return flowiq

    with pytest.raises(PipelineStepFailed, match=r"merge_key=\['tenant_id', 'contact_id', 'id'\]"):
        load(warehouse.pipeline, source())
    for _ in range(2):
        load(warehouse.pipeline, source(merge_key=["tenant_id", "contact_id", "id"]))
    current = "SELECT count(*) FROM flowiq.messages WHERE _dlt_valid_to IS NULL"
    assert warehouse.one(current) == sum(expected(sandbox).values())


def test_a_step_on_a_resource_by_another_name_gets_rows(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """Beside messages that go as tables."""
    source = warehouse.source(sandbox, backend="pyarrow")
    renamed = source.conversations.with_name("others")
    renamed.add_filter(lambda row: row["whatsapp_id"] != three[0].number)
    warehouse.pipeline.run([source.messages, renamed])
    numbers = "SELECT DISTINCT whatsapp_id FROM flowiq.others ORDER BY 1"
    assert warehouse.query(numbers) == [(one.number,) for one in three[1:]]
    assert count(warehouse) == 9


def test_a_resource_twice_in_one_run_is_refused(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """Each would get a part of the rows; two sources have them twice."""
    source = warehouse.source(sandbox)
    with pytest.raises(PipelineStepFailed, match="messages is loaded twice in one run"):
        warehouse.pipeline.run([source.messages, source.messages.with_name("again")])
    warehouse.pipeline.drop()
    again = warehouse.source(sandbox).messages.with_name("again")
    again.apply_hints(table_name="again")
    warehouse.pipeline.run([warehouse.source(sandbox).messages, again])
    assert count(warehouse) == count(warehouse, "again") == 9


def test_a_limited_resource_asks_for_no_more(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """Without a pipeline, by items or by rows."""
    source = warehouse.source(sandbox)
    assert len(list(source.messages.add_limit(1))) == 3
    assert message_requests(sandbox) == 1
    assert len(list(source.messages.add_limit(4, count_rows=True))) == 6


@WAYS
def test_rows_are_handed_on_while_others_are_read(
    warehouse: Warehouse,
    sandbox: Sandbox,
    three: list[Contact],
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resource that has none must not keep the others' in memory until all has been read."""
    monkeypatch.setattr(feed, "BATCH_ROWS", 1)
    source, left = warehouse.source(sandbox), list[int]()

    def step(row: dict[str, Any]) -> dict[str, Any]:
        assert source.feed.run is not None
        left.append(source.feed.run.left)
        return row

    source.messages.add_map(step)
    load(warehouse.pipeline, source)
    assert list(dict.fromkeys(left)) == [2, 1, 0]


@WAYS
def test_tables_are_handed_on_in_a_backfill(
    warehouse: Warehouse,
    sandbox: Sandbox,
    three: list[Contact],
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has no rows of conversations, which must not read everything before them either."""
    monkeypatch.setattr(feed, "BATCH_ROWS", 1)
    source = warehouse.source(sandbox, backend="pyarrow", start_date="2020-01-01")
    left = list[int]()

    def columns(pages: Any) -> Any:
        assert source.feed.run is not None
        left.append(source.feed.run.left)
        return message_table(pages)

    monkeypatch.setattr(feed, "message_table", columns)
    load(warehouse.pipeline, source)
    assert left == [2, 1, 0]


SUBSETS = [["messages"], ["contacts", "messages"], ["messages", "conversations"], ["conversations"]]


@WAYS
@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_a_subset_goes_on_from_its_last_run(
    warehouse: Warehouse,
    sandbox: Sandbox,
    three: list[Contact],
    load: Load,
    names: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It needs no table that was not selected."""
    for _ in range(2):
        load(warehouse.pipeline, warehouse.source(sandbox).with_resources(*names))
    assert {table for table in tables(warehouse) if "__" not in table} - {
        "flowiq.current_messages"
    } == {f"flowiq.{name}" for name in names}
    assert "read again" not in caplog.text
    assert "view" not in caplog.text


def test_nothing_is_deleted_where_no_conversations_are_loaded(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """Nothing is known to be gone, and that is no failure."""
    source = warehouse.source(sandbox).with_resources("messages")
    assert sync(warehouse.pipeline, source, delete_gone=True).complete
    assert count(warehouse) == 9


@pytest.mark.parametrize("name", [None, "contacts", "messages", "conversations", "rejected_rows"])
def test_what_is_replaced_is_whole(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], name: str | None
) -> None:
    """Everything that its rows come of is read again, however quiet it was."""
    sandbox.dialect = "overview"
    run(warehouse.pipeline, warehouse.source(sandbox))
    sandbox.world.advance(30 * DAY)
    for _ in range(2):
        source = warehouse.source(sandbox)
        for resource in [source.resources[name]] if name else source.resources.values():
            resource.apply_hints(write_disposition="replace")
        run(warehouse.pipeline, source)
        assert loaded(warehouse) == expected(sandbox)
        assert [count(warehouse, table) for table in ("contacts", "conversations")] == [3, 3]


def test_sync_refuses_what_would_lose_rows(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """It loads in packages, and each would take the place of the one before."""
    source, pipeline = warehouse.source(sandbox), warehouse.pipeline
    source.conversations.apply_hints(write_disposition="replace")
    with pytest.raises(FlowiqError, match="conversations has write_disposition replace"):
        sync(pipeline, source)
    pipeline.refresh = "drop_data"
    with pytest.raises(FlowiqError, match="refresh=drop_data"):
        sync(pipeline, warehouse.source(sandbox))
    assert sandbox.requests == []


@pytest.mark.parametrize("mode", ["drop_sources", "drop_resources", "drop_data"])
def test_a_refresh_reads_everything_again(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], mode: Any
) -> None:
    """Of the whole source, and of messages alone, after which the next run makes up for it."""
    warehouse.sync(sandbox)
    warehouse.pipeline.run(warehouse.source(sandbox), refresh=mode)
    assert loaded(warehouse) == expected(sandbox)
    warehouse.pipeline.run(warehouse.source(sandbox).with_resources("messages"), refresh=mode)
    warehouse.sync(sandbox)
    assert loaded(warehouse) == expected(sandbox)


def test_dev_mode_has_a_dataset_of_its_own(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """One for a pipeline, whatever is done with it."""
    pipeline = dlt.pipeline(
        "dev",
        pipelines_dir=str(warehouse.folder / "dev"),
        destination=dlt.destinations.duckdb(str(warehouse.file)),
        dataset_name="flowiq",
        dev_mode=True,
    )
    dataset = pipeline.dataset_name
    assert [sync(pipeline, warehouse.source(sandbox)).newer for _ in range(2)] == [9, 0]
    run(pipeline, warehouse.source(sandbox))
    assert verify(pipeline, warehouse.source(sandbox)).differences == []
    assert plan(pipeline, warehouse.source(sandbox)).new == 0
    assert {table.partition(".")[0] for table in tables(warehouse)} == {dataset}
    assert pipeline.dev_mode


@WAYS
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")  # dlt's
def test_a_contract_is_kept(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], load: Load
) -> None:
    """Frozen types take any value; frozen columns refuse a field that nobody documented."""

    def frozen(**contract: Any) -> FlowiqSource:
        source = warehouse.source(sandbox)
        source.schema_contract = contract  # type: ignore[assignment]
        return source

    sync(warehouse.pipeline, warehouse.source(sandbox))
    load(warehouse.pipeline, frozen(tables="freeze", columns="freeze", data_type="freeze"))
    for value in ("text", 5, {"a": [1]}):
        answer_with(sandbox, [{"id": "x", "content": "a", "fresh": value}])
        load(warehouse.pipeline, frozen(data_type="freeze"))
    fresh = "SELECT DISTINCT fresh FROM flowiq.messages WHERE id = 'x'"
    assert warehouse.one(fresh) == '{"a": [1]}'
    answer_with(sandbox, [{"id": "x", "content": "a", "fresher": 1}])
    with pytest.raises(PipelineStepFailed, match="fresher"):
        load(warehouse.pipeline, frozen(columns="freeze"))
    # dlt keeps what could not be normalized; `sync` forgets it by itself.
    warehouse.pipeline.abort_packages()
    load(warehouse.pipeline, frozen(columns="discard_value"))
    assert count(warehouse) == 12


def parallel(source: FlowiqSource) -> FlowiqSource:
    """The source with every resource in a thread pool."""
    for resource in source.resources.values():
        resource.parallelize()
    return source


@WAYS
@pytest.mark.parametrize("how", ["parallelize", "fifo"])
def test_every_page_is_asked_for_once_in_any_order(
    warehouse: Warehouse,
    sandbox: Sandbox,
    three: list[Contact],
    load: Load,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In dlt's thread pool, and when one resource is read to its end before the next."""
    source = warehouse.source(sandbox)
    if how == "fifo":
        monkeypatch.setenv("EXTRACT__NEXT_ITEM_MODE", "fifo")
    else:
        parallel(source)
    load(warehouse.pipeline, source)
    assert len(sandbox.requests) == 4
    assert loaded(warehouse) == expected(sandbox)


def test_the_steps_can_be_taken_by_hand(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """Extract, normalize, load."""
    pipeline = warehouse.pipeline
    pipeline.extract(warehouse.source(sandbox))
    pipeline.normalize()
    pipeline.load()
    assert loaded(warehouse) == expected(sandbox)


def test_a_source_can_be_run_again_and_elsewhere(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """Twice at once, one after the other, and into another pipeline."""
    source, elsewhere = warehouse.source(sandbox), Warehouse(warehouse.folder, "elsewhere")
    run(warehouse.pipeline, [source, source])
    for _ in range(2):
        for there in (warehouse, elsewhere):
            run(there.pipeline, source)
            assert loaded(there) == expected(sandbox)
        sandbox.world.advance(DAY)
        sandbox.world.add_message(three[1], content="later")
        assert sync(warehouse.pipeline, source).newer == 1
        assert loaded(warehouse) == expected(sandbox)


def test_two_tenants_can_be_run_at_once(warehouse: Warehouse, sandbox: Sandbox) -> None:
    """In one call, into one schema, each with its own cursors."""
    write(sandbox, sandbox.world.add_contact("27820000001"), 3)
    with Sandbox(World(contacts=2), tenant="b", limited=False) as second:
        for _ in range(2):
            run(warehouse.pipeline, [warehouse.source(api) for api in (sandbox, second)])
        for api in (sandbox, second):
            assert sync(warehouse.pipeline, warehouse.source(api)).newer == 0
            assert verify(warehouse.pipeline, warehouse.source(api)).differences == []


def test_an_attached_pipeline_goes_on(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact]
) -> None:
    """`dlt.attach`, with and without the working folder."""
    warehouse.sync(sandbox)
    for folder in ("pipelines", "other"):
        attached = dlt.attach(
            warehouse.name,
            pipelines_dir=str(warehouse.folder / folder),
            destination=dlt.destinations.duckdb(str(warehouse.file)),
            dataset_name="flowiq",
        )
        assert sync(attached, warehouse.source(sandbox)).newer == 0
        run(attached, warehouse.source(sandbox))
        assert loaded(warehouse) == expected(sandbox)


@WAYS
@pytest.mark.parametrize("nesting", [0, 1, 5])
def test_nesting_is_the_users_choice(
    warehouse: Warehouse, sandbox: Sandbox, three: list[Contact], load: Load, nesting: int
) -> None:
    """Without child tables there are none, and nothing is read again for it."""
    three[0].messages[0].reactions = [{"emoji": "👍", "sender": "1"}]
    for expected_rows in (9, 0):
        source: DltSource = warehouse.source(sandbox)
        source.max_table_nesting = nesting
        load(warehouse.pipeline, source)
        trace: Any = warehouse.pipeline.last_trace
        # A sync that finds nothing new has loaded nothing.
        written = trace.last_normalize_info.row_counts if trace else {}
        assert written.get("messages", 0) == expected_rows
    assert count(warehouse) == 9
    reactions = "SELECT count(*) FROM flowiq.messages__reactions"
    there = sum(len(m.reactions) for contact in three for m in contact.messages)
    assert warehouse.one(reactions) == (there if nesting else 0)


def test_importing_and_making_a_source_sends_nothing(tmp_path: Path) -> None:
    """And importing needs no token."""
    code = "import flowiq_source as f; print(f.flowiq_source.__name__, f.sync, f.plan, f.verify)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=tmp_path)
