"""The same history into every destination: what it holds is held against the API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest

from flowiq_source import FlowiqSource, flowiq_source, status, sync, verify
from flowiq_source.sandbox import Contact, Sandbox, World
from tests.support.destinations import DATABASES, Destination, shown
from tests.support.history import DAY, expected, write
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
