"""Syncs that hash or drop what says who somebody is: nothing of it reaches a disk or a log."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from flowiq_source import flowiq_source, plan, verify
from flowiq_source.errors import ConfigurationError
from flowiq_source.rows.privacy import Hasher
from flowiq_source.sandbox import Contact, Reply, Sandbox
from tests.support.people import NUMBER, add_thandiwe
from tests.support.scan import found_in, states_of
from tests.support.warehouse import Warehouse

KEY = "0123456789abcdef" * 2
PSEUDONYMS: dict[str, Any] = {"pseudonymise": True, "hash_key": KEY}

PERSONAL = {
    *(NUMBER, "+27 82 555 0101", "Thandiwe Mkhize", "thandiwe@example.org", "Thandi-nick"),
    *("https://media.example.org/thandiwe", "HBgLMjc4MjU1NTAxMDE", "Mkhize-residence"),
    *("maybe-Thandiwe", "27825550199"),
}
"""What the account shows of people, beyond what they wrote."""


def people(sandbox: Sandbox, dialect: str) -> Contact:
    """Somebody of whom every kind of personal data is known, and somebody who cannot be read."""
    sandbox.dialect = dialect
    world = sandbox.world
    thandiwe = add_thandiwe(
        world,
        extra={"nickname": "Thandi-nick", "archived": "maybe-Thandiwe"},
    )
    for n in range(3):
        world.add_message(
            thandiwe,
            world.now - timedelta(hours=n),
            id=f"wamid.HBgLMjc4MjU1NTAxMDEVAgA{n}",
            content=f"I am here {n}",
            media_url=f"https://media.example.org/thandiwe{n}.jpg",
            reactions=[{"emoji": "x", "sender": NUMBER}] if n else [],
            extra={"location_data": {"name": "Mkhize-residence"}, "assignee": [NUMBER]},
        )
    world.add_contact("27825550199", full_name="Somebody Else")
    refused = {"whatsappNumber": "27825550199", "contactId": world.contacts[-1].id}

    def intercept(params: dict[str, str]) -> Reply | None:
        is_refused = any(params.get(name) == value for name, value in refused.items())
        return Reply(400, b'{"success": false, "error": "27825550199?"}') if is_refused else None

    sandbox.intercept = intercept
    return thandiwe


@pytest.mark.parametrize("dialect", ["seed", "reference", "overview"])
def test_nothing_that_says_who_somebody_is_reaches_a_disk_or_a_log(
    warehouse: Warehouse,
    sandbox: Sandbox,
    tmp_path: Path,
    all_logs: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    dialect: str,
) -> None:
    """Two syncs, with misfits, undocumented fields, reactions, a failure; what was said stays."""
    thandiwe = people(sandbox, dialect)
    monkeypatch.setenv("SOURCES__FLOWIQ__HASH_KEY", KEY)
    for backend in ("rows", "pyarrow"):
        summary = warehouse.sync(sandbox, backend=backend, pseudonymise=True)
        assert summary.failed == 1
        sandbox.world.advance(timedelta(hours=1))
        sandbox.world.add_message(thandiwe, content="I am here again", sender=NUMBER)
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 4
    assert warehouse.one("SELECT count(*) FROM flowiq.rejected_rows") > 3
    assert found_in(tmp_path, {"I am here 1", KEY, *PERSONAL}) == {"I am here 1"}
    said = states_of(warehouse) + all_logs()
    assert [word for word in {KEY, *PERSONAL} if word in said] == []


@pytest.mark.parametrize("dialect", ["seed", "overview"])
def test_joins_by_pseudonyms_hold(warehouse: Warehouse, sandbox: Sandbox, dialect: str) -> None:
    """Across tables, and from one sync to the next."""
    thandiwe = people(sandbox, dialect)
    warehouse.sync(sandbox, **PSEUDONYMS)
    sandbox.world.advance(timedelta(hours=1))
    sandbox.world.add_message(thandiwe, content="Once more")
    assert warehouse.sync(sandbox, **PSEUDONYMS).newer == 1
    [row] = warehouse.query(
        """SELECT c.whatsapp_id, count(DISTINCT m.id), count(DISTINCT r.sender)
           FROM flowiq.contacts c
           JOIN flowiq.contact_identities i ON i.contact_id = c.id AND i.value = c.whatsapp_id
           JOIN flowiq.conversations o ON o.contact_id = c.id AND o.whatsapp_id = c.whatsapp_id
           JOIN flowiq.messages m ON m.contact_id = c.id AND m.whatsapp_id = c.whatsapp_id
           LEFT JOIN flowiq.messages__reactions r
             ON r._dlt_parent_id = m._dlt_id AND r.sender = c.whatsapp_id
           GROUP BY 1"""
    )
    assert row == (Hasher(KEY)(NUMBER), 4, 1)


def test_both_backends_store_the_same(tmp_path: Path, sandbox: Sandbox) -> None:
    """Whatever is hashed or dropped."""
    people(sandbox, "seed")
    tables = []
    for backend in ("rows", "pyarrow"):
        warehouse = Warehouse(tmp_path, backend)
        columns = {"messages.content": "hash", "messages.status": "drop"}
        warehouse.sync(sandbox, backend=backend, columns=columns, **PSEUDONYMS)
        without = {"_dlt_id", "_dlt_load_id", "synced_at"}
        tables.append(warehouse.table("messages", without))
    assert tables[0] == tables[1]
    assert {len(row["content"]) for row in tables[0]} == {32}


@pytest.mark.parametrize("dialect", ["seed", "overview"])
def test_a_pseudonymous_warehouse_is_planned_and_verified(
    warehouse: Warehouse, sandbox: Sandbox, dialect: str
) -> None:
    """The API cannot be asked by a pseudonym: the contact list has the number."""
    thandiwe = people(sandbox, dialect)
    sandbox.intercept = None
    warehouse.sync(sandbox, **PSEUDONYMS)
    source = warehouse.source(sandbox, **PSEUDONYMS)
    assert verify(warehouse.pipeline, source).differences == []
    assert plan(warehouse.pipeline, source).new == 0
    sandbox.world.add_message(thandiwe)
    assert len(verify(warehouse.pipeline, source).differences) == 1


def test_chosen_numbers_are_found_in_a_pseudonymous_warehouse(
    warehouse: Warehouse, sandbox: Sandbox
) -> None:
    """The setting has the number in clear, and so have requests."""
    people(sandbox, "overview")
    for _ in range(2):
        summary = warehouse.sync(sandbox, phone_numbers=["+27 82 555 0101"], **PSEUDONYMS)
        assert (summary.read, summary.unknown_numbers) == (1, [])
    assert warehouse.query("SELECT DISTINCT id FROM flowiq.contacts") == [(Hasher(KEY)(NUMBER),)]


def refused(warehouse: Warehouse, sandbox: Sandbox, **settings: Any) -> str:
    """Why a sync is refused, which asks the API nothing."""
    with pytest.raises(PipelineStepFailed) as failed:
        warehouse.sync(sandbox, **settings)
    cause: BaseException | None = failed.value
    while cause and not isinstance(cause, ConfigurationError):
        cause = cause.__cause__ or cause.__context__
    assert sandbox.requests == []
    return str(cause)


def test_another_key_is_refused(warehouse: Warehouse, sandbox: Sandbox, alice: Contact) -> None:
    """Also where only a column is hashed: joins would no longer hold."""
    columns = {"contacts.email": "hash"}
    warehouse.sync(sandbox, columns=columns, hash_key=KEY)
    assert "hash_key is not the one" in refused(
        warehouse, sandbox, columns=columns, hash_key=KEY[::-1]
    )
    assert warehouse.sync(sandbox, columns=columns, hash_key=KEY).complete


def test_pseudonyms_are_not_mixed_with_what_they_stand_for(
    tmp_path: Path, sandbox: Sandbox, alice: Contact
) -> None:
    """Neither way: what was loaded before would stay, and stand there twice."""
    plain, pseudonymous = Warehouse(tmp_path, "plain"), Warehouse(tmp_path, "pseudonymous")
    plain.sync(sandbox)
    assert "loaded without it" in refused(plain, sandbox, **PSEUDONYMS)
    pseudonymous.sync(sandbox, **PSEUDONYMS)
    assert "pseudonymise is not set" in refused(pseudonymous, sandbox)
    assert pseudonymous.sync(sandbox, **PSEUDONYMS).complete


def test_columns_come_from_the_environment_and_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON in the one; a quoted key or a table in the other."""
    given: dict[str, Any] = {"bearer_token": "token"}
    monkeypatch.setenv("SOURCES__FLOWIQ__COLUMNS", '{"messages.content": "drop"}')
    wanted = {"messages.content": "drop"}
    assert flowiq_source(**given).feed.settings.columns == wanted
    monkeypatch.delenv("SOURCES__FLOWIQ__COLUMNS")
    nested = {"messages": {"content": "drop"}}
    assert flowiq_source(**given, columns=nested).feed.settings.columns == wanted  # type: ignore[arg-type]
    monkeypatch.setenv("SOURCES__FLOWIQ__COLUMNS__MESSAGES__CONTENT", "drop")
    with pytest.raises(ConfigurationError, match="is one variable"):
        flowiq_source(**given)


def test_the_width_of_the_terminal_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As dlt would take `COLUMNS`, which shells export, for the setting of that name."""
    monkeypatch.setenv("COLUMNS", "80")
    assert flowiq_source("token").feed.settings.columns == {}
    wanted = {"messages.content": "drop"}
    with dlt.config.values({"sources.flowiq.columns": wanted}):
        assert flowiq_source("token").feed.settings.columns == wanted
    assert flowiq_source("token", columns=wanted).feed.settings.columns == wanted
    monkeypatch.setenv("SOURCES__FLOWIQ__COLUMNS", '{"messages.content": "drop"}')
    assert flowiq_source("token").feed.settings.columns == wanted


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"columns": ["messages.content"]}, "such as"),
        ({"columns": "messages.content"}, "such as"),
        ({"keep_undocumented": "message_type"}, "list of names"),
        ({"hash_key": "short"}, "too easy to guess"),
        ({"hash_key": "a" * 64}, "too easy to guess"),
        ({"pseudonymise": True}, "hash_key is not set"),
        ({"columns": {"messages.contents": "drop"}}, "did you mean messages.content"),
    ],
)
def test_a_setting_that_cannot_be_right_is_refused(settings: dict[str, Any], says: str) -> None:
    """When the source is made, before anything is sent; no key is quoted."""
    with pytest.raises(ConfigurationError, match=says) as wrong:
        flowiq_source(bearer_token="token", **settings)
    assert "\n" not in str(wrong.value)
    assert str(settings.get("hash_key")) not in str(wrong.value)


def test_a_misspelt_switch_is_found_beside_a_token_in_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch that is passed over in silence would load everything in clear."""
    monkeypatch.setitem(dlt.secrets, "sources.flowiq.bearer_token", "token")  # type: ignore[arg-type]
    with (
        dlt.config.values({"sources.flowiq.pseudonymize": True}),
        pytest.raises(ConfigurationError, match="did you mean pseudonymise"),
    ):
        flowiq_source()
