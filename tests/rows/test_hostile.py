"""A corpus of hostile rows, each with its reason: never a crash, never a dropped row."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flowiq_source.rows.columns import CONTACT, MESSAGE
from flowiq_source.rows.convert import Origin, contact_row, message_row
from flowiq_source.rows.extras import extra_columns
from flowiq_source.sandbox import Contact, Sandbox
from tests.support.history import answer_with
from tests.support.warehouse import Warehouse

CORPUS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("hostile_rows.json").read_text(encoding="ascii")
)


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_the_corpus_loads_row_by_row_and_again(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, order: str
) -> None:
    """All in one sync and then again: as many rows as the API has, whichever came first."""
    rows = [entry["message"] for entry in CORPUS]
    if order == "backwards":
        rows.reverse()
    for half in (rows[: len(rows) // 2], rows, rows):
        answer_with(sandbox, half)
        assert warehouse.sync(sandbox).complete
        assert warehouse.one("SELECT count(*) FROM flowiq.current_messages") == len(half)
    assert warehouse.one("SELECT count(DISTINCT id) FROM flowiq.messages") == len(rows)
    assert warehouse.one("SELECT count(DISTINCT tenant_id) FROM flowiq.messages") == 1


@pytest.mark.parametrize("entry", CORPUS, ids=[entry["reason"][:60] for entry in CORPUS])
def test_every_hostile_row_is_mapped(entry: dict[str, Any]) -> None:
    """To a row with every declared column, in either table."""
    now, extras = datetime.now(timezone.utc), extra_columns()
    origin = Origin(tenant_id="t", contact_id="c", whatsapp_id="w", synced_at=now, scan=0)
    assert set(MESSAGE) <= set(message_row(entry["message"], origin, extras).row)
    assert set(CONTACT) <= set(contact_row(entry["message"], "t", now, extras).row)
