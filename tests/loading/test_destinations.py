"""The same history into every destination: what it holds is held against the API."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest

from flowiq_source import (
    FlowiqError,
    FlowiqSource,
    Tenant,
    flowiq_source,
    status,
    sync,
    sync_tenants,
    verify,
)
from flowiq_source.errors import Busy
from flowiq_source.loading.lease import lease, lock_number
from flowiq_source.sandbox import Contact, Sandbox, World
from tests.support.destinations import DATABASES, Destination, files, install, needs, shown
from tests.support.history import DAY, expected, write
from tests.support.organisations import a_day_later, organisations
from tests.support.script import ROOT
from tests.support.warehouse import UNLIMITED

pytestmark = [
    # dlt's own, in the SQL that it makes for sqlalchemy.
    pytest.mark.filterwarnings("ignore:implicitly coercing SELECT object"),
    pytest.mark.filterwarnings("ignore:Coercing Subquery object"),
]

THUMB, HEART = "\N{THUMBS UP SIGN}", "\N{HEAVY BLACK HEART}"


@pytest.fixture
def api() -> Iterator[Sandbox]:
    """Two contacts, each with five messages, of which two have reactions and two nearly one id."""
    with Sandbox(World(contacts=0), limited=False) as sandbox:
        for n in range(2):
            contact = sandbox.world.add_contact(f"2782000000{n}", full_name="Zoë \N{SNOWMAN}")
            write(sandbox, contact, 5)
            contact.messages[0].id, contact.messages[2].id = f"wamid.{n}aB", f"wamid.{n}Ab"
            contact.messages[3].reactions = [{"emoji": THUMB, "sender": "1"}]
            contact.messages[4].reactions = [
                {"emoji": HEART, "sender": "1"},
                {"emoji": THUMB, "sender": "2"},
            ]
        yield sandbox


def source_of(api: Sandbox, **settings: Any) -> FlowiqSource:
    """The source, configured for the sandbox."""
    account: dict[str, Any] = {
        "bearer_token": api.token,
        "tenant_id": api.tenant,
        "base_url": api.url,
        "requests_per_minute": UNLIMITED,
    }
    return flowiq_source(**account | settings)


def change(api: Sandbox, contact: Contact) -> None:
    """A day later: a reaction changed, one taken back, a message deleted, another one come."""
    contact.messages[3].reactions = [{"emoji": HEART, "sender": "1"}]
    contact.messages[4].reactions = contact.messages[4].reactions[:1]
    api.world.delete_message(contact, contact.messages[1])
    api.world.advance(DAY)
    api.world.add_message(contact, content="later \N{PARTY POPPER}")


def rows_of(pipeline: dlt.Pipeline, select: str, table: str, more: str = "") -> list[Any]:
    """What a query of one table says."""
    with pipeline.sql_client() as client:
        name = client.make_qualified_table_name(table)
        found = client.execute_sql(f"SELECT {select} FROM {name} {more}") or ()
        return [tuple(row) for row in found]


@pytest.mark.parametrize("destination", DATABASES)
def test_a_database_follows_the_api(api: Sandbox, tmp_path: Path, destination: Destination) -> None:
    """Children, views, `verify`, `status` and `delete_gone` after a change and a deletion."""
    first, _ = api.world.contacts
    with destination(tmp_path) as pipeline:
        assert sync(pipeline(), source_of(api)).newer == 10
        seen = sorted(rows_of(pipeline(), "value, first_seen_at", "contact_identities"))
        change(api, first)
        summary = sync(pipeline(), source_of(api))
        assert (summary.newer, summary.complete) == (1, True)
        assert shown(pipeline()) == expected(api)
        assert rows_of(pipeline(), "count(*)", "messages") == [(11,)]
        assert sorted(rows_of(pipeline(), "value, first_seen_at", "contact_identities")) == seen
        assert verify(pipeline(), source_of(api)).differences == []
        assert rows_of(pipeline(), "conversations, behind, failed", "sync_status") == [(2, 0, 0)]
        assert "last sync        20" in str(status(pipeline(), source_of(api)))
        # Who has reactions is deleted with them.
        api.world.delete_message(first, first.messages[3])
        api.world.advance(DAY)
        sync(pipeline(), source_of(api), delete_gone=True)
        assert rows_of(pipeline(), "count(*)", "messages") == [(9,)]
        assert rows_of(pipeline(), "count(*)", "messages__reactions") == [(4,)]
        assert shown(pipeline()) == expected(api)
        assert verify(pipeline(), source_of(api)).differences == []


@pytest.mark.parametrize("destination", [one for one in DATABASES if one.id == "mariadb"])
def test_one_machine_at_a_time_loads_a_tenant_into_mariadb(
    api: Sandbox, tmp_path: Path, destination: Destination
) -> None:
    """The other is told who is at it; one whose session was ended writes nothing more."""
    with destination(tmp_path / "one") as one:
        made = one()
        two = dlt.pipeline(
            "two",
            pipelines_dir=str(tmp_path / "two"),
            destination=made.destination,
            dataset_name=made.dataset_name,
        )
        sync(made, source_of(api))
        schema = source_of(api).schema
        with lease(made, schema, api.tenant) as check:
            with pytest.raises(Busy, match=r"a session from .* has been doing that; run again"):
                sync(two, source_of(api))
            with lease(two, schema, "another tenant") as others:
                others()
            check()
            with two.sql_client() as client:
                number = lock_number(client.fully_qualified_dataset_name(), api.tenant)
                [[session]] = client.execute_sql(f"SELECT IS_USED_LOCK('flowiq {number}')") or []
                client.execute_sql(f"KILL {session}")
            with pytest.raises(Busy, match="nothing more is written"):
                check()
        for _ in range(2):
            assert sync(two, source_of(api)).complete
        assert sync(made, source_of(api)).complete


@pytest.mark.parametrize("destination", DATABASES)
def test_many_tenants_are_loaded_side_by_side(tmp_path: Path, destination: Destination) -> None:
    """Into one dataset, where nobody is in the way of another."""
    with (
        Sandbox(World(0), tenants=organisations(["a", "b", "c"]), limited=False) as api,
        destination(tmp_path) as pipeline,
    ):
        made = pipeline()

        def pipeline_of(tenant: Tenant) -> dlt.Pipeline:
            return dlt.pipeline(
                f"of_{tenant.id}",
                pipelines_dir=made.pipelines_dir,
                destination=made.destination,
                dataset_name=made.dataset_name,
            )

        def source_of(tenant: Tenant) -> FlowiqSource:
            token, unlimited = f"fiq_{tenant.id}", UNLIMITED
            return flowiq_source(token, tenant.id, api.url, requests_per_minute=unlimited)

        tenants = [Tenant(one.slug, "unused") for one in api.tenants]
        for _ in range(2):
            summary = sync_tenants(tenants, at_once=3, pipeline_of=pipeline_of, source_of=source_of)
            assert summary.counts() == {"complete": 3}, str(summary)
            everything = sum((expected(one) for one in api.tenants), Counter())  # type: ignore[arg-type]
            assert shown(made) == everything
            a_day_later(api)


@pytest.mark.parametrize("destination", DATABASES)
def test_a_plain_run_merges_as_well(api: Sandbox, tmp_path: Path, destination: Destination) -> None:
    """`pipeline.run`, with the view that the first `sync` afterwards makes."""
    with destination(tmp_path) as pipeline:
        for _ in range(2):
            pipeline().run(source_of(api))
            change(api, api.world.contacts[0])
        sync(pipeline(), source_of(api))
        assert shown(pipeline()) == expected(api)


@pytest.mark.parametrize("destination", DATABASES)
def test_a_database_keeps_any_text_and_a_new_field(
    api: Sandbox, tmp_path: Path, destination: Destination
) -> None:
    """Longer than 64 KB, with emoji; a column that comes later is in the view."""
    with destination(tmp_path) as pipeline:
        sync(pipeline(), source_of(api))
        text = "\N{PARTY POPPER}" * 50_000 + "\u00e9 ' \\ %s :name"
        api.world.add_message(api.world.contacts[0], content=text, extra={"novel": "x"})
        sync(pipeline(), source_of(api))
        where = "WHERE novel = 'x'"
        assert rows_of(pipeline(), "content", "current_messages", where) == [(text,)]


FORMATS = [
    pytest.param(None, id="parquet"),
    pytest.param("delta", id="delta", marks=needs("deltalake", "duckdb_extension_delta")),
    pytest.param(
        "iceberg",
        id="iceberg",
        marks=needs("pyiceberg", "duckdb_extension_iceberg", "duckdb_extension_avro"),
    ),
]
EXTENSIONS = {None: [], "delta": ["delta"], "iceberg": ["avro", "iceberg"]}


def documented(kind: str, folder: Path) -> str:
    """A query of the docs, on the dataset in the folder."""
    page = (ROOT / "docs" / "destinations.md").read_text()
    [query] = re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(query).replace("FILES", str(folder / "files" / "flowiq"))


def shown_in_files(folder: Path, table_format: str | None) -> Counter[tuple[Any, ...]]:
    """What the queries of the docs say that the API has."""
    for extension in EXTENSIONS[table_format]:
        install(extension)
    with closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(documented(table_format or "parquet", folder))
        connection.execute(documented("current", folder))
        select = "SELECT _dlt_parent_id, emoji, sender FROM messages__reactions ORDER BY ALL"
        if table_format:
            select = documented("reactions", folder)
        reactions: dict[str, list[tuple[str, str]]] = {}
        for parent, emoji, sender in connection.sql(select).fetchall():
            reactions.setdefault(parent, []).append((emoji, sender))
        columns = "_dlt_id, whatsapp_id, timestamp, sender, content, status, voice_transcription"
        rows = connection.sql(f"SELECT {columns} FROM current_messages").fetchall()
    return Counter((*row, tuple(sorted(reactions.get(key, ())))) for key, *row in rows)


@pytest.mark.parametrize("table_format", FORMATS)
@pytest.mark.parametrize("backend", ["rows", "pyarrow"])
def test_files_follow_the_api(
    api: Sandbox, tmp_path: Path, table_format: str | None, backend: str
) -> None:
    """By the queries of the docs; `verify` and `status` answer, and nothing is read twice."""
    settings = {"table_format": table_format, "backend": backend}
    with files(tmp_path) as pipeline:
        assert sync(pipeline(), source_of(api, **settings)).newer == 10
        change(api, api.world.contacts[0])
        api.requests.clear()
        summary = sync(pipeline(), source_of(api, **settings))
        assert (summary.newer, len(api.requests)) == (1, 3)
        assert summary.appended == (table_format is None)
        truth = Counter((*row, tuple(sorted(reactions))) for *row, reactions in expected(api))
        assert shown_in_files(tmp_path, table_format) == truth
        for last in (False, True):
            found = verify(pipeline(), source_of(api, **settings), from_last_sync=last)
            assert (found.conversations, found.differences) == (2, [])
        counts = status(pipeline(), source_of(api, **settings)).tables
        assert (counts["messages"], counts["contacts"]) == (11, 2)
    folder = tmp_path / "files" / "flowiq" / "messages"
    kinds = {file.suffix for file in folder.glob("**/*") if file.is_file()}
    assert kinds == {".parquet"} if table_format is None else ".parquet" in kinds


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_plain_run_writes_the_same_files(
    api: Sandbox, tmp_path: Path, table_format: str | None
) -> None:
    """`pipeline.run` and `sync` in turn, into one folder."""
    settings = {"table_format": table_format, "backend": "pyarrow"}
    with files(tmp_path) as pipeline:
        for load in (dlt.Pipeline.run, sync, dlt.Pipeline.run):
            load(pipeline(), source_of(api, **settings))
            change(api, api.world.contacts[0])
        sync(pipeline(), source_of(api, **settings))
        truth = Counter((*row, tuple(sorted(reactions))) for *row, reactions in expected(api))
        assert shown_in_files(tmp_path, table_format) == truth
        assert verify(pipeline(), source_of(api, **settings)).differences == []


def test_one_source_is_loaded_into_files_and_into_a_database(api: Sandbox, tmp_path: Path) -> None:
    """What files need is said for them alone."""
    source = source_of(api)
    with files(tmp_path) as kept, DATABASES[0].values[0](tmp_path) as database:  # type: ignore[operator]
        for pipeline in (kept, database, kept, database):
            sync(pipeline(), source)
        assert shown(database()) == expected(api)
        assert rows_of(database(), "count(*)", "messages") == [(10,)]


def test_when_a_row_of_a_file_was_first_seen_stays(api: Sandbox, tmp_path: Path) -> None:
    """In the newest row of each key as in the first."""
    with files(tmp_path) as pipeline:
        for _ in range(2):
            sync(pipeline(), source_of(api))
    glob = tmp_path / "files" / "flowiq" / "contact_identities" / "*.parquet"
    select = f"SELECT value, count(*), count(DISTINCT first_seen_at) FROM '{glob}' GROUP BY ALL"
    with closing(duckdb.connect()) as connection:
        assert {row[1:] for row in connection.sql(select).fetchall()} == {(2, 1)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"delete_gone": True}, "delete_gone deletes by SQL, and filesystem answers none"),
        ({"table_format": "hudi"}, 'table_format is "delta" or "iceberg"'),
    ],
)
def test_what_files_cannot_do_is_refused_before_a_request(
    api: Sandbox, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    """In one line."""
    with files(tmp_path) as pipeline, pytest.raises(FlowiqError, match=said) as error:
        sync(pipeline(), source_of(api, **settings))
    assert api.requests == []
    assert "\n" not in str(error.value)


def test_a_format_that_the_destination_does_not_know_is_refused(
    api: Sandbox, tmp_path: Path
) -> None:
    """DuckDB has tables of its own."""
    with DATABASES[0].values[0](tmp_path) as pipeline:  # type: ignore[operator]
        with pytest.raises(FlowiqError, match="duckdb does not load that"):
            sync(pipeline(), source_of(api, table_format="delta"))
        assert api.requests == []
