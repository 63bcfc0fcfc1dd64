"""One conversation, however long: its memory is bounded, and a kill repeats one package of it."""

import signal
import sys
from datetime import datetime, timezone
from typing import Any

import pytest

from flowiq_source.reading.conversation import PART_ROWS
from flowiq_source.sandbox import Contact, Reply, Sandbox, reply_json
from flowiq_source.settings import pages_of
from tests.support.apart import synced_apart
from tests.support.history import message_requests
from tests.support.warehouse import Warehouse

MOST_MB = 400


def long(sandbox: Sandbox, messages: int) -> None:
    """Have every conversation hold so many messages, which are made as they are asked for."""

    def answer(params: dict[str, str]) -> Reply | None:
        if params["action"] != "conversation-messages":
            return None
        page, limit = int(params["page"]), int(params["limit"])
        places = list(range(messages))[(page - 1) * limit : page * limit]
        if params["ascending"] == "false":
            places = [messages - 1 - n for n in places]
        more = page * limit < messages
        pagination = {"currentPage": page, "totalMessages": messages, "hasNextPage": more}
        rows = [written(n) for n in places]
        return reply_json(200, {"success": True, "messages": rows, "pagination": pagination})

    sandbox.intercept = answer


def written(n: int) -> dict[str, Any]:
    """Message number n, oldest first."""
    at = datetime.fromtimestamp(1_600_000_000 + 37 * n, timezone.utc).isoformat()
    reactions = [{"emoji": "👍", "sender": "27"}] * (n % 10 == 0)
    text = f"message {n} " + "of a long conversation " * 4
    who = {"sender_type": "user-whatsapp", "message_status": "read", "reactions": reactions}
    return {"message": text, "created_at": at, **who}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts memory in other units")
@pytest.mark.parametrize("backend", ["rows", "pyarrow"])
def test_a_long_conversation_fits_into_memory(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, backend: str
) -> None:
    """With either backend; all of it is there."""
    long(sandbox, 4 * PART_ROWS)
    assert alice.id
    ended, peak_mb = synced_apart(warehouse, sandbox, "", "0", backend)
    assert ended == 0
    assert peak_mb < MOST_MB
    assert warehouse.one("SELECT count(DISTINCT content) FROM flowiq.messages") == 4 * PART_ROWS
    assert warehouse.one("SELECT count(*) FROM flowiq.current_messages") == 4 * PART_ROWS


def test_a_kill_in_a_long_conversation_repeats_one_package(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """A part of it; what was committed before is not asked for again."""
    rows = 3 * PART_ROWS
    long(sandbox, rows)
    assert alice.id
    ended, _ = synced_apart(warehouse, sandbox, "before load", "1", "rows")
    assert ended == -signal.SIGKILL
    committed = warehouse.one("SELECT count(*) FROM flowiq.messages")
    assert committed > 0
    assert warehouse.sync(sandbox).complete
    # And one page for each border that may part equals.
    assert message_requests(sandbox) <= pages_of(rows - committed) + 4
    assert warehouse.one("SELECT count(DISTINCT content) FROM flowiq.current_messages") == rows
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == rows
    assert warehouse.query("SELECT status FROM flowiq.conversations") == [("complete",)]
    warehouse.sync(sandbox)
    assert message_requests(sandbox) == 1
