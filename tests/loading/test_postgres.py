"""The same into a real PostgreSQL, where two tenants may load at the same time."""

import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import pytest

from flowiq_source import DestinationError, Summary, flowiq_source, sync, verify
from flowiq_source.sandbox import Sandbox, World
from tests.support.destinations import NEEDS_POSTGRES, SERVER
from tests.support.script import FLOWIQ, settings_of

psycopg2: Any = pytest.importorskip("psycopg2")

pytestmark = NEEDS_POSTGRES


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    """A dataset that is dropped afterwards, with its staging datasets."""
    # dlt would give another name to one with two underscores in a row.
    name = f"flowiq_{uuid.uuid4().hex}"
    yield name
    with warehouse(tmp_path, name).sql_client() as client:
        for suffix in ("", "_staging", "_staging_one", "_staging_two"):
            client.execute_sql(f'DROP SCHEMA IF EXISTS "{name}{suffix}" CASCADE')


def warehouse(folder: Path, dataset: str, server: str = SERVER or "") -> dlt.Pipeline:
    """A pipeline into the dataset."""
    return dlt.pipeline(
        "postgres",
        pipelines_dir=str(folder),
        destination=dlt.destinations.postgres(server),
        dataset_name=dataset,
    )


def counts(folder: Path, dataset: str) -> list[tuple[Any, ...]]:
    """Messages and distinct message ids of each tenant, gone ones left out."""
    with warehouse(folder, dataset).sql_client() as client:
        rows = client.execute_sql(
            "SELECT tenant_id, count(*), count(DISTINCT id) FROM current_messages "
            "GROUP BY 1 ORDER BY 1"
        )
    return [tuple(row) for row in rows or []]


@pytest.mark.parametrize("dialect", ["seed", "mixed"])
def test_a_history_of_changes_ends_equal_to_the_api(
    tmp_path: Path, dataset: str, dialect: str
) -> None:
    """Packages, arrivals, deletions, the view, deletion and verification, as in DuckDB."""
    with Sandbox(World(), dialect=dialect, limited=False) as api:
        settings: dict[str, Any] = {
            "bearer_token": api.token,
            "tenant_id": api.tenant,
            "base_url": api.url,
            "requests_per_minute": 1e6,
        }
        for round_ in range(3):
            source = flowiq_source(**settings)
            sync(
                warehouse(tmp_path, dataset),
                source,
                package_conversations=4,
            )
            if round_:
                # A contact that is listed no longer is doubtful first.
                sync(
                    warehouse(tmp_path, dataset), flowiq_source(**settings), delete_gone=round_ == 2
                )
            assert verify(warehouse(tmp_path, dataset), source).differences == []
            contacts = api.world.contacts
            total = sum(len(contact.history(api.world.now)) for contact in contacts)
            assert counts(tmp_path, dataset) == [("sandbox", total, total)]
            api.world.delete_message(contacts[0], contacts[0].messages[round_])
            api.world.delete_contact(contacts[3])
            api.world.advance(timedelta(days=1))


@pytest.fixture
def synced(tmp_path: Path, dataset: str) -> Iterator[Sandbox]:
    """An API, and a dataset that has been synced with it."""
    with Sandbox(World(contacts=2), limited=False) as api:
        again(api, tmp_path, dataset)
        yield api


def again(api: Sandbox, folder: Path, dataset: str) -> Summary:
    """One more sync."""
    source = flowiq_source(
        bearer_token=api.token, tenant_id=api.tenant, base_url=api.url, requests_per_minute=1e6
    )
    return sync(warehouse(folder, dataset), source)


def test_a_sync_that_finds_nothing_new_loads_nothing(
    tmp_path: Path, dataset: str, synced: Sandbox
) -> None:
    """And moves all times; the next one loads what is new."""
    number = "SELECT count(*) FROM {}"
    times = (
        "SELECT min(c.synced_at), min(i.last_seen_at), min(v.synced_at) "
        "FROM contacts c, contact_identities i, conversations v"
    )

    def ask(sql: str) -> tuple[Any, ...]:
        with warehouse(tmp_path, dataset).sql_client() as client:
            [row] = client.execute_sql(sql) or []
            return tuple(row)

    before = ask(times)
    assert again(synced, tmp_path, dataset).newer == 0
    assert ask(number.format("_dlt_loads")) == (1,)
    assert ask(number.format("syncs WHERE complete AND ended_at >= started_at")) == (2,)
    assert all(new > old for new, old in zip(ask(times), before, strict=True))
    synced.world.advance(timedelta(hours=1))
    synced.world.add_message(synced.world.contacts[0], content="news")
    assert again(synced, tmp_path, dataset).newer
    assert ask(number.format("_dlt_loads")) == (2,)
    assert ask(number.format("current_messages WHERE content = 'news'")) == (1,)


@contextmanager
def connected(dataset: str) -> Iterator[Any]:
    """Somebody else's connection, whose transaction stays open."""
    connection = psycopg2.connect(SERVER)
    with connection.cursor() as cursor:
        cursor.execute(f'SET search_path = "{dataset}"')
        cursor.execute("SET statement_timeout = '10s'")
        yield cursor
    connection.close()


COUNT = "SELECT count(*) FROM current_messages"


def test_who_reads_the_view_keeps_no_sync_waiting(
    tmp_path: Path, dataset: str, synced: Sandbox
) -> None:
    """Nor does that sync keep others from reading: a view with nothing new is left alone."""
    with connected(dataset) as reader:
        reader.execute(COUNT)
        contact = synced.world.contacts[0]
        synced.world.advance(timedelta(days=1))
        synced.world.add_message(contact)
        assert again(synced, tmp_path, dataset).complete
        with connected(dataset) as other:
            other.execute(COUNT)
            shown = other.fetchall()
    total = sum(len(contact.history(synced.world.now)) for contact in synced.world.contacts)
    assert shown == [(total,)]


IMPATIENT = (SERVER or "") + "?options=-c%20lock_timeout%3D1s"
"""With it, whoever waits for a lock for more than a second fails."""


def test_no_sync_waits_for_a_reader_and_no_reader_for_a_sync(
    tmp_path: Path, dataset: str, synced: Sandbox
) -> None:
    """Beyond a second: transactions stay open, others read on and on, and each sync deletes."""
    read, ends = [], threading.Event()

    def read_on() -> None:
        with closing(psycopg2.connect(IMPATIENT)) as connection, connection.cursor() as cursor:
            while not ends.is_set():
                for name in ("current_messages", "sync_status", "messages__reactions"):
                    cursor.execute(f'SELECT count(*) FROM "{dataset}".{name}')
                    read.append(cursor.fetchone())
                connection.commit()

    pipeline = warehouse(tmp_path, dataset, IMPATIENT)
    with connected(dataset) as reader, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_on)
        try:
            for _ in range(3):
                reader.execute(COUNT)
                contact = synced.world.contacts[0]
                synced.world.delete_message(contact, contact.messages[0])
                synced.world.advance(timedelta(days=1))
                synced.world.add_message(contact)
                source = flowiq_source(
                    synced.token, synced.tenant, synced.url, requests_per_minute=1e6
                )
                assert sync(pipeline, source, delete_gone=True).newer
        finally:
            ends.set()
        reading.result()
    assert read


def test_a_new_column_waits_for_a_reader_for_a_second_at_a_time(
    tmp_path: Path, dataset: str, synced: Sandbox
) -> None:
    """Then the sync says that somebody is in the way, others go on reading, and the next has it."""
    synced.world.add_message(synced.world.contacts[0], extra={"novel": "x"})
    with connected(dataset) as reader:
        reader.execute("SELECT count(*) FROM messages")
        with pytest.raises(DestinationError, match="another program was at it"):
            again(synced, tmp_path, dataset)
        with connected(dataset) as other:
            other.execute(COUNT)
    again(synced, tmp_path, dataset)
    with connected(dataset) as reader:
        reader.execute("SELECT count(novel) FROM current_messages")
        assert reader.fetchall() == [(1,)]


def test_a_view_that_depends_on_ours_survives_new_columns(
    tmp_path: Path, dataset: str, synced: Sandbox
) -> None:
    """Ours is replaced, never dropped."""
    with connected(dataset) as user:
        user.execute("CREATE VIEW mine AS SELECT id, content FROM current_messages")
        user.connection.commit()
    synced.world.add_message(synced.world.contacts[0], extra={"novel": "x"})
    again(synced, tmp_path, dataset)
    with connected(dataset) as user:
        user.execute("SELECT count(novel) FROM current_messages")
        assert user.fetchall() == [(1,)]
        user.execute("SELECT count(*) = (SELECT count(*) FROM current_messages) FROM mine")
        assert user.fetchall() == [(True,)]


def test_a_view_that_cannot_be_replaced_now_is_replaced_by_a_later_sync(
    tmp_path: Path, dataset: str, synced: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A lock on it is waited for a second, not for ever; the rows are loaded all the same."""
    with connected(dataset) as user:
        user.execute("ALTER TABLE messages ADD COLUMN novel text")
        user.connection.commit()
        user.execute(COUNT)
        assert again(synced, tmp_path, dataset).complete
        assert "the view current_messages stays as it is" in caplog.text
    again(synced, tmp_path, dataset)
    with connected(dataset) as user:
        user.execute("SELECT count(novel) FROM current_messages")
        assert user.fetchall() == [(0,)]


def test_a_user_without_rights_is_found_before_a_request(
    tmp_path: Path, dataset: str, synced: Sandbox
) -> None:
    """One who may read everything."""
    synced.requests.clear()
    read_only = (SERVER or "") + "?options=-c%20default_transaction_read_only%3Don"
    pipeline = dlt.pipeline(
        "postgres",
        pipelines_dir=str(tmp_path),
        destination=dlt.destinations.postgres(read_only),
        dataset_name=dataset,
    )
    source = flowiq_source(bearer_token=synced.token, tenant_id=synced.tenant, base_url=synced.url)
    with pytest.raises(Exception, match="read-only transaction"):
        sync(pipeline, source)
    assert synced.requests == []


def test_two_tenants_load_into_one_dataset_at_the_same_time(tmp_path: Path, dataset: str) -> None:
    """As two processes of the command, again and again."""
    with (
        Sandbox(World(seed=1), tenant="one", limited=False) as one,
        Sandbox(World(seed=2), tenant="two", limited=False) as two,
    ):
        for _ in range(2):
            running = [start(api, tmp_path, dataset) for api in (one, two)]
            said = [process.communicate()[1] for process in running]
            assert [process.returncode for process in running] == [0, 0], said
            for api in (one, two):
                api.world.advance(timedelta(days=1))
        for api in (one, two):
            start(api, tmp_path, dataset).communicate()
        totals = [
            sum(len(contact.history(api.world.now)) for contact in api.world.contacts)
            for api in (one, two)
        ]
    assert counts(tmp_path, dataset) == [
        (tenant, total, total) for tenant, total in zip(("one", "two"), totals, strict=True)
    ]
    with warehouse(tmp_path, dataset).sql_client() as client:
        # The newest of each.
        assert client.execute_sql("SELECT count(*) FROM _dlt_pipeline_state") == [(2,)]


def start(api: Sandbox, folder: Path, dataset: str) -> "subprocess.Popen[str]":
    """The command for the sandbox's tenant."""
    environment = settings_of(api, folder / "dlt") | {
        "DESTINATION_TYPE": "postgres",
        "DESTINATION__POSTGRES__CREDENTIALS": SERVER or "",
        "DATASET_NAME": dataset,
    }
    return subprocess.Popen(
        [*FLOWIQ, "sync", "--debug"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
