"""Does the warehouse equal the API? Conversation by conversation, by the API's own counts."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from flowiq_source.api.client import Meter, Params
from flowiq_source.committed import answering, messages_state
from flowiq_source.errors import BadRequest, ConfigurationError, Inconsistent, NotFound
from flowiq_source.loading.destination import Client
from flowiq_source.loading.lock import sole_sync
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.state import TenantState
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.undocumented import forget_working_folder
from flowiq_source.loading.views import CURRENT_ROW
from flowiq_source.reading.conversation import Conversation
from flowiq_source.reading.listing import Roster, conversation_ways
from flowiq_source.reading.pool import in_order
from flowiq_source.settings import PAGE_SIZE
from flowiq_source.source import FlowiqSource

_Count = tuple[int, Meter]
"""How many messages the API has of a conversation, and what it cost to ask."""


@dataclass(frozen=True)
class Difference:
    """A conversation whose messages in the warehouse are not as many as the API counts."""

    contact_id: str
    whatsapp_id: str | None
    warehouse: int
    api: int

    def __str__(self) -> str:
        # Without an id from the API the contact's id is the number, which is not for logs.
        is_number = self.whatsapp_id is None or self.contact_id == self.whatsapp_id
        who = f"…{self.contact_id[-3:]}" if is_number else self.contact_id
        return f"contact {who}: {self.warehouse} in the warehouse, {self.api} at the API"


@dataclass(frozen=True)
class Verification:
    """What a verification found, and what it cost."""

    conversations: int
    requests: int
    differences: list[Difference]

    @property
    def exit_status(self) -> int:
        """1 where something differs."""
        return 1 if self.differences else 0

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"conversations   {self.conversations} compared, {len(self.differences)} differ",
            f"requests        {self.requests}",
        ]
        return "\n".join([*lines, *map(str, self.differences)])


def verify(
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    *,
    from_last_sync: bool = False,
    mark: bool = False,
) -> Verification:
    """Compare the API's `totalMessages` with the messages that are not gone.

    One request per conversation, and those of the contact list where the warehouse holds
    pseudonyms, which the API cannot be asked by. What the API counts and never hands out
    (`surplus` in `conversations`) is no difference.

    Args:
        pipeline: The pipeline that loaded the warehouse.
        source: The source that it loaded, for its settings.
        from_last_sync: Take the counts that the last sync saw; costs no request.
        mark: Have the next sync read what differs to its beginning.

    Raises:
        Busy: another process syncs with this pipeline.
        ConfigurationError: the destination answers no SQL, or holds no tables.
        DestinationError: the destination refuses or is away.
        FlowiqError: the API cannot be asked.
    """
    with sole_sync(pipeline):
        known = without_row_texts(pipeline, lambda: _conversations(pipeline, source))
        requests, counts = 0, [_seen(one) for one in known]
        if not from_last_sync:
            client = source.feed.connect(source.feed.settings, sleep=time.sleep)
            ways, requests = _ways(client, source)
            asked = [partial(_counted, client, one, ways(one)) for one in known]
            answers = list(_shown(pipeline, client, asked))
            counts = [count for count, _ in answers]
            requests += sum(meter.requests for _, meter in answers)
        differences = _differences(known, counts)
        if mark and differences:
            _mark(pipeline, source, differences)
    return Verification(len(known), requests, differences)


def seen_by_the_last_sync(pipeline: dlt.Pipeline, source: FlowiqSource) -> Verification:
    """What `verify` with `from_last_sync` finds, also while somebody syncs.

    Raises:
        ConfigurationError: the destination answers no SQL, or holds no tables.
    """
    known = _conversations(pipeline, source)
    return Verification(len(known), 0, _differences(known, [_seen(one) for one in known]))


class _Known(NamedTuple):
    """What the warehouse has of a conversation."""

    contact_id: str
    whatsapp_id: str | None
    status: str
    message_count: int | None
    surplus: int | None
    live: int


def _conversations(pipeline: dlt.Pipeline, source: FlowiqSource) -> list[_Known]:
    names = TableNames.of(source)
    with answering(pipeline, source) as sql:
        if sql is None:
            raise ConfigurationError(
                "verify asks the destination by SQL, and this one answers none: "
                "compare its rows with the counts in conversations"
            )
        select = conversation_counts(sql, names)
        try:
            rows = sql.execute_sql(select, source.feed.settings.tenant_key)
        except DatabaseUndefinedRelation:
            raise ConfigurationError(
                f"verify finds no tables {names.messages} and {names.conversations} in the "
                "dataset: sync first, or check dataset_name"
            ) from None
    return [_Known(*row) for row in rows or []]


def _differences(known: list[_Known], counts: list[int]) -> list[Difference]:
    return [
        Difference(one.contact_id, one.whatsapp_id, one.live, count)
        for one, count in zip(known, counts, strict=True)
        if count != one.live
    ]


def conversation_counts(sql: Client, names: TableNames) -> str:
    """The query for every conversation of a tenant, and how many of its messages are not gone."""
    conversations, messages = map(
        sql.make_qualified_table_name, (names.conversations, names.messages)
    )
    kept = "c.contact_id, c.whatsapp_id, c.status, c.message_count, c.surplus"
    return (
        f"SELECT {kept}, count(CASE WHEN m.contact_id IS NOT NULL AND {CURRENT_ROW} THEN 1 END) "  # noqa: S608
        f"FROM {conversations} c LEFT JOIN {messages} m "
        f"ON m.tenant_id = c.tenant_id AND m.contact_id = c.contact_id "
        f"WHERE c.tenant_id = %s GROUP BY {kept} ORDER BY c.contact_id"
    )


def _seen(known: _Known) -> int:
    if known.status in {"missing", "doubtful"} or known.message_count is None:
        return 0 if known.status == "missing" else known.live
    return known.message_count - (known.surplus or 0)


def _ways(client: Any, source: FlowiqSource) -> tuple[Callable[[_Known], Sequence[Params]], int]:
    """How the API is asked for a conversation, and the requests that it cost to find out.

    A warehouse of pseudonyms holds no numbers: then the contact list is asked for them.
    """
    if not source.feed.policy.pseudonymise:
        return lambda known: conversation_ways(known.contact_id, known.whatsapp_id or ""), 0
    roster = Roster(client, source.feed.contact_mapper(), lambda: None)
    requests = sum(page.meter.requests for page in roster.list_all())
    if roster.error:
        raise Inconsistent(f"the list of contacts is not complete: {roster.error}")
    unlisted = Conversation("")
    return lambda known: roster.by_id.get(known.contact_id, unlisted).ways, requests


def _shown(
    pipeline: dlt.Pipeline, client: Any, asked: Sequence[Callable[[], _Count]]
) -> Iterator[_Count]:
    """What is counted; the pipeline's collector is told how far that is."""
    collector = pipeline.collector
    with collector("Verify"):
        collector.update("Conversations", 0, total=len(asked))
        for count in in_order(asked):
            collector.update("Conversations")
            collector.update("Requests", count[1].requests, message=client.pace())
            yield count


def _counted(client: Any, known: _Known, ways: Sequence[Params]) -> _Count:
    meter = Meter()
    for who in ways:
        try:
            page = client.messages(who, 1, meter, size=PAGE_SIZE, ascending=False)
        except NotFound:
            continue
        except BadRequest:
            if who is ways[-1]:
                raise
            continue
        if known.live and not page.rows:
            continue
        total = len(page.rows) if page.total is None else page.total
        return total - (known.surplus or 0), meter
    return 0, meter


def _mark(pipeline: dlt.Pipeline, source: FlowiqSource, found: list[Difference]) -> None:
    """Forget the cursors in the destination's state; the next sync begins with that state."""
    forget_working_folder(pipeline)
    pipeline.sync_destination()
    with pipeline.managed_state(extract_state=True) as state:
        kept = TenantState.kept(messages_state(state, source), source.feed.settings.tenant_key)
        for difference in found:
            kept.forget_cursor(difference.contact_id)
    pipeline.normalize()
    pipeline.load()
