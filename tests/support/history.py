"""A conversation's history at the sandbox, and what a warehouse must hold of it."""

from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

from flowiq_source.loading.state import TenantState
from flowiq_source.reading.cursor import Cursor
from flowiq_source.sandbox import Contact, Sandbox, reply_json
from flowiq_source.sandbox.dialects import DIALECTS
from tests.support.warehouse import Warehouse

JANUARY = datetime(2026, 1, 1, tzinfo=timezone.utc)


HOUR = timedelta(hours=1)


DAY = timedelta(days=1)


MESSAGE_DIALECTS = [dialect for dialect in DIALECTS if dialect != "overview"]
"""The overview writes messages as the reference does."""


def write(sandbox: Sandbox, contact: Contact, count: int, *, every: timedelta = HOUR) -> None:
    """A history of `count` messages that ends at the sandbox's now, oldest first."""
    for n in range(count):
        at = sandbox.world.now - (count - 1 - n) * every
        sandbox.world.add_message(contact, at, content=f"message {n}")


def crowd_of(sandbox: Sandbox, contacts: int) -> list[Contact]:
    """So many contacts with three messages each."""
    crowd = [sandbox.world.add_contact(f"2782000{n:04d}") for n in range(contacts)]
    for contact in crowd:
        write(sandbox, contact, 3)
    return crowd


def expected(sandbox: Sandbox) -> Counter[tuple[Any, ...]]:
    """What the API would show to somebody who read everything now."""
    return Counter(
        (
            contact.number,
            message.at.replace(tzinfo=timezone.utc),
            message.sender,
            message.content,
            message.status,
            message.voice_transcription,
            tuple((r["emoji"], r["sender"]) for r in message.reactions),
        )
        for contact in sandbox.world.contacts
        for message in contact.history(sandbox.world.now)
    )


def loaded(warehouse: Warehouse) -> Counter[tuple[Any, ...]]:
    """The same from the warehouse, as far as the API still has it."""
    rows = warehouse.query(
        """
        SELECT m.whatsapp_id, m.timestamp, m.sender, m.content, m.status, m.voice_transcription,
               list((r.emoji, r.sender) ORDER BY r._dlt_list_idx) FILTER (r.emoji IS NOT NULL)
        FROM flowiq.messages m
        LEFT JOIN flowiq.messages__reactions r ON r._dlt_parent_id = m._dlt_id
        JOIN flowiq.conversations c USING (tenant_id, contact_id)
        WHERE m.scan >= c.scan
        GROUP BY m._dlt_id, 1, 2, 3, 4, 5, 6
        """
    )
    return Counter((*row[:-1], tuple(row[-1] or ())) for row in rows)


def message_requests(sandbox: Sandbox) -> int:
    """How many pages of messages the last sync asked for."""
    return sum(r["action"] == "conversation-messages" for r in sandbox.requests)


def cursors(warehouse: Warehouse) -> dict[str, Cursor]:
    """The cursors of the sandbox's tenant, by contact."""
    resources: dict[str, Any] = warehouse.pipeline.state["sources"]["flowiq"]["resources"]
    found = TenantState.of(resources["messages"], "sandbox").cursors()
    return {contact_id: cursor for contact_id, cursor in found.items() if cursor.is_read}


def answer_with(sandbox: Sandbox, rows: list[Any]) -> None:
    """Have the API answer every conversation with these rows."""
    pagination = {"currentPage": 1, "totalPages": 1, "hasNextPage": False}
    pagination |= {"totalMessages": len(rows)}
    answer = reply_json(200, {"success": True, "messages": rows, "pagination": pagination})
    sandbox.intercept = lambda params: (
        answer if params["action"] == "conversation-messages" else None
    )
