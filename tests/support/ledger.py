"""Runs over a sandbox whose rows are kept in a dict: what a warehouse would hold, without one."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flowiq_source.api.client import FlowiqClient
from flowiq_source.reading.conversation import PART_ROWS, ConversationResult
from flowiq_source.reading.cursor import Cursor
from flowiq_source.reading.pool import Stop
from flowiq_source.reading.run import Known, Run
from flowiq_source.rows.arrow import map_page, read_rows
from flowiq_source.rows.convert import contact_row
from flowiq_source.rows.extras import extra_columns
from flowiq_source.sandbox import Sandbox
from flowiq_source.settings import Settings
from flowiq_source.times import utc_now
from tests.support.warehouse import Clock, impatient

Row = dict[str, Any]


class Ledger:
    """Messages and cursors after any number of runs; `results` are those of the last one."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.number = 0
        self.messages: dict[tuple[str, str], Row] = {}
        self.conversations: dict[str, Row] = {}
        self.cursors: dict[str, Cursor] = {}
        self.results: list[ConversationResult] = []
        self.list_surplus = 0
        self.written = 0
        """How many messages the last run brought."""

    def run(
        self,
        *,
        now: Callable[[], datetime] = utc_now,
        part_rows: int = PART_ROWS,
        wrap: Callable[[Any], Any] = lambda client: client,
        parts: int | None = None,
        map_message: Callable[..., Any] = map_page,
        backfill_from: datetime | None = None,
        **settings: Any,
    ) -> Run:
        """One run to its end, or until so many results have come; what came is kept."""
        self.number += 1
        self.sandbox.requests.clear()
        account = impatient(self.sandbox, Clock())
        wanted = Settings(
            **{
                "bearer_token": self.sandbox.token,
                "tenant_id": self.sandbox.tenant,
                "base_url": self.sandbox.url,
            }
            | settings
        )
        extras = extra_columns()
        run = Run(
            api=wrap(FlowiqClient(**account | {"settings": wanted}, read_rows=read_rows)),
            settings=wanted,
            known=Known(dict(self.cursors), self.number, list_surplus=self.list_surplus),
            map_contact=lambda raw, at: contact_row(raw, wanted.tenant_key, at, extras),
            map_page=lambda rows, origin: map_message(rows, origin, extras, columnar=False),
            now=now,
            stop=Stop(),
            part_rows=part_rows,
            backfill_from=backfill_from,
        )
        self.results, self.written = [], 0
        for _ in run.contacts():
            pass
        for result in run.conversations(lambda: False):
            self._keep(result)
            if parts is not None and len(self.results) == parts:
                run.close()
                break
        self.list_surplus = run.roster.surplus
        return run

    def _keep(self, one: ConversationResult) -> None:
        self.results.append(one)
        rows = [mapped.row for mapped in one.mapped]
        ids = [row["id"] for row in rows]
        assert len(set(ids)) == len(ids) == one.rows
        contact_id = one.task.conversation.contact_id
        self.messages |= {(contact_id, row["id"]): row for row in rows}
        self.written += len(rows)
        if one.is_settled and one.task.rules.backfill_from is None:
            self.conversations[contact_id] = one.row("sandbox")
        if one.cursor:
            self.cursors[contact_id] = one.cursor

    def current(self) -> list[Row]:
        """The messages that are not gone."""
        return [
            row
            for (contact_id, _), row in self.messages.items()
            if row.get("scan", 0) >= (self.conversations[contact_id]["scan"] or 0)
        ]

    def texts(self) -> Counter[tuple[Any, ...]]:
        """Their numbers, times and texts."""
        return Counter(
            (row["whatsapp_id"], row.get("timestamp"), row.get("content")) for row in self.current()
        )

    def truth(self) -> Counter[tuple[Any, ...]]:
        """The same from the sandbox."""
        world = self.sandbox.world
        return Counter(
            (contact.number, message.at, message.content)
            for contact in world.contacts
            for message in contact.history(world.now)
        )

    @property
    def asked(self) -> int:
        """How many pages of messages the last run asked for."""
        return sum(r["action"] == "conversation-messages" for r in self.sandbox.requests)
