"""A person is forgotten in a real PostgreSQL, down to the bytes of its tables."""

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

from dlt.common.versioned_state import decompress_state

from flowiq_source import flowiq_source, forget, sync, verify
from flowiq_source.rows.privacy import Hasher
from flowiq_source.sandbox import Sandbox, World
from tests.loading.test_postgres import (
    dataset,  # noqa: F401 - a fixture
    pytestmark,  # noqa: F401 - skips without a server
    warehouse,
)
from tests.support.people import NUMBER, add_thandiwe

KEY = "0123456789abcdef" * 2
PERSONAL = {NUMBER, "+27 82 555 0101", "Thandiwe Mkhize", "thandiwe@example.org", "I am here"}


def source_of(api: Sandbox, **settings: Any) -> Any:
    """The source of the sandbox, with a key."""
    account: dict[str, Any] = {"bearer_token": api.token, "tenant_id": api.tenant}
    return flowiq_source(
        **account, base_url=api.url, requests_per_minute=1e6, hash_key=KEY, **settings
    )


def populate(api: Sandbox) -> None:
    """Somebody with a history, who also reacts and writes elsewhere."""
    world = api.world
    thandiwe = add_thandiwe(
        world,
        extra={"archived": f"maybe {NUMBER}"},
    )
    other = world.add_contact("27825550199", full_name="Somebody Else")
    for n in range(30):
        at = world.now - timedelta(hours=n)
        world.add_message(thandiwe, at, content="I am here", reactions=[{"emoji": "x"}])
        world.add_message(other, at, reactions=[{"emoji": "y", "sender": NUMBER}])
    world.add_message(other, content="I am here", sender=NUMBER)


def on_disk(folder: Path, name: str, words: Collection[str]) -> set[str]:
    """The words that stand in the bytes of the dataset's tables or of the columns' statistics."""
    files = (
        "SELECT pg_read_binary_file(pg_relation_filepath(c.oid)) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE pg_relation_filepath(c.oid) IS NOT NULL AND pg_relation_size(c.oid) > 0 "
        "AND (n.nspname LIKE %s OR c.relname = 'pg_statistic')"
    )
    with warehouse(folder, name).sql_client() as client:
        client.execute_sql("CHECKPOINT")
        pages = b"\n".join(bytes(row[0]) for row in client.execute_sql(files, f"{name}%") or ())
    return {word for word in words if word.encode() in pages}


def states(folder: Path, name: str) -> str:
    """All that dlt's states say."""
    with warehouse(folder, name).sql_client() as client:
        rows = client.execute_sql("SELECT state FROM _dlt_pipeline_state")
    return "\n".join(str(decompress_state(row[0])) for row in rows or ())


def test_nothing_of_a_forgotten_person_is_left_in_postgresql(
    tmp_path: Path,
    dataset: str,  # noqa: F811
) -> None:
    """Neither dead rows nor statistics of columns; and no sync brings anything back."""
    with Sandbox(World(contacts=0), dialect="seed", limited=False) as api:
        populate(api)
        sync(warehouse(tmp_path, dataset), source_of(api))
        with warehouse(tmp_path, dataset).sql_client() as client:
            client.execute_sql("ANALYZE")
        assert on_disk(tmp_path, dataset, PERSONAL) == PERSONAL
        done = forget(warehouse(tmp_path, dataset), source_of(api), phone="+27 82 555 0101")
        assert (done.contacts, done.rows["messages"], done.blanked, done.left) == (1, 30, 1, "")
        assert done.rows["messages__reactions"] == 60
        assert on_disk(tmp_path, dataset, PERSONAL) == set()
        contact = api.world.contacts[0].id
        assert contact not in states(tmp_path, dataset)
        for full_refresh in (False, True):
            summary = sync(warehouse(tmp_path, dataset), source_of(api, full_refresh=full_refresh))
            assert (summary.complete, summary.forgotten) == (True, 1)
        assert on_disk(tmp_path, dataset, PERSONAL) == set()
        found = verify(warehouse(tmp_path, dataset), source_of(api))
        assert (found.conversations, found.differences) == (1, [])


def test_pseudonyms_and_their_forgetting_in_postgresql(
    tmp_path: Path,
    dataset: str,  # noqa: F811
) -> None:
    """The same hashes as in DuckDB; contact ids are numbers here."""
    pseudonym = Hasher(KEY)(NUMBER)
    personal = PERSONAL - {"I am here"}
    with warehouse(tmp_path, dataset).sql_client() as client:
        # The samples of other tests' tables.
        client.execute_sql("VACUUM FULL pg_statistic")
    with Sandbox(World(contacts=0), dialect="overview", limited=False) as api:
        populate(api)
        for _ in range(2):
            sync(warehouse(tmp_path, dataset), source_of(api, pseudonymise=True))
        assert on_disk(tmp_path, dataset, {pseudonym, *personal}) == {pseudonym}
        assert pseudonym in states(tmp_path, dataset)
        source = source_of(api, pseudonymise=True)
        assert forget(warehouse(tmp_path, dataset), source, phone=NUMBER).left == ""
        assert pseudonym not in states(tmp_path, dataset)
        with warehouse(tmp_path, dataset).sql_client() as client:
            rows = client.execute_sql(
                "SELECT count(*) FROM messages WHERE whatsapp_id = %s", pseudonym
            )
            assert rows == [(0,)]
