"""Does the warehouse equal the API? Conversation by conversation, by the API's own counts."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import dlt
from dlt.common.configuration import with_config

from flowiq_source.api.client import FlowiqClient, Meter
from flowiq_source.api.in_flight import result_of
from flowiq_source.errors import NotFound
from flowiq_source.loading.state import TenantState
from flowiq_source.reading.reader import conversation_params
from flowiq_source.settings import PRODUCTION_URL, REQUESTS_PER_MINUTE, Settings


@dataclass(frozen=True)
class Difference:
    """A conversation whose messages in the warehouse are not as many as the API counts."""

    contact_id: str
    whatsapp_id: str | None
    warehouse: int
    api: int

    def __str__(self) -> str:
        # Without an id from the API the contact's id is the number, which is not for logs.
        number = self.contact_id == self.whatsapp_id
        who = f"…{self.contact_id[-3:]}" if number else self.contact_id
        return f"contact {who}: {self.warehouse} in the warehouse, {self.api} at the API"


@dataclass(frozen=True)
class Verification:
    """What a verification found, and what it cost."""

    conversations: int
    requests: int
    differences: list[Difference]

    def __str__(self) -> str:
        lines = [
            f"conversations   {self.conversations} compared, {len(self.differences)} differ",
            f"requests        {self.requests}",
        ]
        return "\n".join([*lines, *map(str, self.differences)])


@with_config(sections=("sources", "flowiq"))
def verify(
    pipeline: dlt.Pipeline,
    bearer_token: str = dlt.secrets.value,
    tenant_id: str | None = None,
    base_url: str = PRODUCTION_URL,
    *,
    from_last_sync: bool = False,
    mark: bool = False,
    requests_per_minute: float = REQUESTS_PER_MINUTE,
    rate_limit_share: float = 1.0,
) -> Verification:
    """Compare the API's `totalMessages` with `current_messages`, one request per conversation.

    Args:
        pipeline: The pipeline that loaded the warehouse.
        bearer_token: As for `flowiq_source`.
        tenant_id: As for `flowiq_source`.
        base_url: As for `flowiq_source`.
        from_last_sync: Take the counts that the last sync saw; costs no request.
        mark: Have the next sync read what differs to its beginning.
        requests_per_minute: As for `flowiq_source`.
        rate_limit_share: As for `flowiq_source`.

    Raises:
        FlowiqError: the API cannot be asked.
    """
    client = FlowiqClient(
        Settings(bearer_token, tenant_id, base_url, requests_per_minute, rate_limit_share)
    )
    tenant, meter = client.settings.tenant_key, Meter()
    known = _conversations(pipeline, tenant)
    api = _seen if from_last_sync else partial(_counted, client, meter)
    differences = [
        Difference(conversation.contact_id, conversation.whatsapp_id, conversation.live, counted)
        for conversation in known
        if (counted := api(conversation)) != conversation.live
    ]
    if mark and differences:
        _mark(pipeline, tenant, differences)
    return Verification(len(known), meter.requests, differences)


class _Known(NamedTuple):
    """What the warehouse has of a conversation."""

    contact_id: str
    whatsapp_id: str | None
    status: str
    message_count: int | None
    live: int


def _conversations(pipeline: dlt.Pipeline, tenant: str) -> list[_Known]:
    with pipeline.sql_client() as sql:
        conversations = sql.make_qualified_table_name("conversations")
        messages = sql.make_qualified_table_name("current_messages")
        rows = sql.execute_sql(
            f"SELECT c.contact_id, c.whatsapp_id, c.status, c.message_count, "  # noqa: S608
            f"(SELECT count(*) FROM {messages} m WHERE m.tenant_id = c.tenant_id "
            f"AND m.contact_id = c.contact_id) FROM {conversations} c "
            f"WHERE c.tenant_id = %s ORDER BY c.contact_id",
            tenant,
        )
    return [_Known(*row) for row in rows or []]


def _seen(known: _Known) -> int:
    return 0 if known.status == "missing" else known.message_count or 0


def _counted(client: FlowiqClient, meter: Meter, known: _Known) -> int:
    who = conversation_params(known.contact_id, known.whatsapp_id or "")
    try:
        page = result_of(client.messages(who, 1, meter))
    except NotFound:
        return 0
    return len(page.rows) if page.total is None else page.total


def _mark(pipeline: dlt.Pipeline, tenant: str, found: list[Difference]) -> None:
    """Forget the cursors in the destination's state; the next sync begins with that state."""
    with pipeline.managed_state(extract_state=True) as state:
        messages = state["sources"]["flowiq"]["resources"]["messages"]
        kept = TenantState.kept(messages, tenant)
        for difference in found:
            kept.forget_cursor(difference.contact_id)
    pipeline.normalize()
    pipeline.load()
