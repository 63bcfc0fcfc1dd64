"""A sync that finds nothing new, and the little that it writes.

A load package takes dlt half a second of a processor, whatever is in it. So the run of a small
tenant that was loaded before begins without one. What it finds is held against the rows in the
destination. If they are the same, the times at which they were seen move on, `syncs` gets its row,
and that is all. Else the run goes on in a load package, into which goes what it has found already.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.normalizers.utils import generate_dlt_ids
from dlt.common.schema import Schema
from dlt.extract import DltResource, DltSource
from dlt.pipeline.state_sync import load_pipeline_state_from_destination

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.changes import FREE_TO_ASK
from flowiq_source.loading.destination import Client, Committed
from flowiq_source.loading.feed import Feed
from flowiq_source.loading.incremental import may_be_bounded
from flowiq_source.loading.known import held_against, known_of
from flowiq_source.loading.privacy import with_the_forgotten
from flowiq_source.loading.state import TenantState
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.undocumented import client_of, has_row_steps
from flowiq_source.reading.ahead import Ahead
from flowiq_source.reading.conversation import ConversationResult
from flowiq_source.reading.run import Known
from flowiq_source.reading.schedule import is_quiet
from flowiq_source.rows.convert import Row
from flowiq_source.rows.identities import identity_rows
from flowiq_source.rows.privacy import Policy
from flowiq_source.settings import Settings

MOST_CONVERSATIONS = 200
"""In the sync of a larger tenant dlt's share is small, and what it has read is to be committed."""

MOVING = {
    "contacts": (("id",), ("synced_at",)),
    "contact_identities": (("contact_id", "kind", "value"), ("last_seen_at",)),
    "conversations": (("contact_id",), ("synced_at", "rescanned_at", "requests")),
}
"""What tells a tenant's rows apart, and what of them moves though nothing is new."""

Seen = dict[str, list[Row]]
"""The rows that a run saw, by table, and the one that it writes into `syncs`."""


@dataclass(frozen=True)
class Stored:
    """What the destination has of a tenant, and what is known by it."""

    schema: Schema
    load_id: str
    """The last load package."""
    known: Known
    policy: Policy
    rows: Mapping[str, Mapping[tuple[Any, ...], Row]]
    """By table and key."""

    def has(self, table: str, rows: Sequence[Row]) -> bool:
        """Whether rows are stored as they are, but for what moves."""
        before = [self.rows[table].get(_key(table, row)) for row in rows]
        return [_content(table, row) for row in before] == [_content(table, row) for row in rows]


def _key(table: str, row: Row) -> tuple[Any, ...]:
    return tuple(row[column] for column in MOVING[table][0])


def _content(table: str, row: Row | None) -> Row | None:
    """What tells whether a row is the same; a column that it does not have is null.

    Of what moves, whether it is there: a setting may have it dropped from now on.
    """
    moving = {*MOVING[table][1], "first_seen_at"}
    return row and {
        name: name in moving or value
        for name, value in row.items()
        if not name.startswith("_dlt") and value not in (None, [])
    }


def may_be_idle(pipeline: dlt.Pipeline, source: DltSource, settings: Settings) -> bool:
    """Whether it could be told that a sync finds nothing new."""
    resources = source.selected_resources
    return (
        pipeline.destination.destination_type.endswith(FREE_TO_ASK)
        and not (
            settings.phone_numbers is not None or settings.full_refresh or settings.table_format
        )
        and {*resources} == {*TableNames.__dataclass_fields__}
        and all(map(_is_as_it_was_made, resources.values()))
        and not may_be_bounded(resources["messages"])
        and bool(source.max_table_nesting)
        and pipeline.config.use_single_dataset
    )


def _is_as_it_was_made(resource: DltResource) -> bool:
    """Whether rows that are the same are stored the same."""
    changes = has_row_steps(resource) or resource.validator or resource.limit
    return resource.write_disposition == "merge" and not changes


def _has_columns(source: DltSource, there: Mapping[str, Any]) -> bool:
    """Whether the tables have the columns that the source wants; a newer one may want more."""
    for resource in source.resources.values():
        name = source.schema.naming.normalize_table_identifier(str(resource.table_name))
        nested: Any = resource.nested_hints or {}
        wanted: dict[str, Any] = {f"{name}__{one}": nested[one]["columns"] for one in nested}
        for table, columns in (wanted | {name: resource.columns or {}}).items():
            if callable(columns):
                return False
            names = {one if isinstance(one, str) else one["name"] for one in columns}
            if not names <= there.get(table, {}).get("columns", {}).keys():
                return False
    return True


def stored_of(pipeline: dlt.Pipeline, source: DltSource, feed: Feed) -> Stored | None:
    """What the destination has; None where something is there that a load has to see to.

    Nothing that lies in the working folder is asked.
    """
    settings, names = feed.settings, TableNames.of(source)
    with client_of(pipeline, source.schema) as client:
        try:
            newest: Any = load_pipeline_state_from_destination(pipeline.pipeline_name, client)
            stored_schema = client.get_stored_schema(source.schema.name)
        except DestinationUndefinedEntity:
            return None
        if not newest or not stored_schema:
            return None
        # Checked when it was stored; to do it again takes a fifth of the sync.
        schema = Schema.from_dict(json.loads(stored_schema.schema), validate_schema=False)
        resources = newest.get("sources", {}).get(schema.name, {}).get("resources", {})
        state = TenantState.of(resources.get("messages", {}), settings.tenant_key)
        if not (_may_stay(state, feed.policy) and _has_columns(source, schema.tables)):
            return None
        committed = Committed(client.sql_client, settings.tenant_key)
        known = known_of(state, settings, feed.now())
        if held_against(known, state, committed, names, source.selected_resources):
            return None
        try:
            policy = with_the_forgotten(feed.policy, state, committed, names)
        except ConfigurationError:
            # It is the load that says so.
            return None
        return Stored(
            schema,
            state.load_ids[-1],
            known,
            policy,
            _rows(committed, names),
        )


def _may_stay(state: TenantState, policy: Policy) -> bool:
    """Whether the state says all that the next sync has to know, if this one finds nothing."""
    key_id = policy.hasher.key_id if policy.hashes and policy.hasher else state.hash_key
    return (
        state.run > 0
        and state.open_run is None
        and len(state.cursors()) <= MOST_CONVERSATIONS
        and (state.hash_key, state.pseudonymised) == (key_id, policy.pseudonymise)
    )


def _rows(committed: Committed, names: TableNames) -> dict[str, dict[tuple[Any, ...], Row]]:
    found = {}
    for table in MOVING:
        sql = f"SELECT * FROM {committed.name(getattr(names, table))} WHERE tenant_id = %s"  # noqa: S608
        rows = committed.records(sql, committed.tenant_id)
        found[table] = {_key(table, row): row for row in rows}
    contacts, tags = committed.name(names.contacts), committed.name(f"{names.contacts}__tags")
    tags_of = {row["_dlt_id"]: row.setdefault("tags", []) for row in found["contacts"].values()}
    for contact, tag in committed.rows(
        f"SELECT t._dlt_parent_id, t.value FROM {tags} t JOIN {contacts} c "  # noqa: S608
        "ON c._dlt_id = t._dlt_parent_id WHERE c.tenant_id = %s ORDER BY t._dlt_list_idx",
        committed.tenant_id,
    ):
        tags_of[contact].append(tag)
    return found


def seen_by(ahead: Ahead, stored: Stored) -> Seen | None:
    """What a run saw, if there was nothing new in all of it; the run is read no further than that.

    Raises:
        FlowiqError: the contacts cannot be listed; nothing else can be either.
    """
    seen: Seen = {table: [] for table in MOVING}
    run, known, tenant = ahead.run, stored.known, ahead.run.settings.tenant_key

    def is_stored(table: str, rows: list[Row]) -> bool:
        kept = stored.policy.rows(table, rows)
        seen[table] += kept
        return stored.has(table, kept)

    for listed in ahead.contacts.look():
        identities = [
            row
            for one in listed.contacts
            for row in identity_rows(one.row, one.identities, one.row["synced_at"])
        ]
        if (
            any(one.rejected or one.replaced or one.overflowed for one in listed.contacts)
            or not is_stored("contacts", [one.row for one in listed.contacts])
            or not is_stored("contact_identities", identities)
        ):
            return None
    if run.roster.error or run.roster.unlisted:
        return None
    for result in ahead.conversations.look():
        if not (_is_unchanged(result) and is_stored("conversations", [result.row(tenant)])):
            return None
    troubles = ("stale", "carried_over", "vanished", "unlisted")
    learnt = run.way, run.roster.surplus
    if any(run.counts[one] for one in troubles) or learnt != (known.way, known.list_surplus):
        return None
    return seen


def _is_unchanged(one: ConversationResult) -> bool:
    """Whether a reading found what the one before did, and the next one need not know of it."""
    task, cursor = one.task, one.cursor
    if one.status != "complete" or one.pages or cursor is None:
        return False
    previous = task.previous
    same = cursor._replace(run=previous.run, synced_at=previous.synced_at) == previous
    # Unless it is told, the next sync asks for what need not be asked for any more.
    return same and (is_quiet(task) or not is_quiet(task._replace(previous=cursor)))


def write_seen(pipeline: dlt.Pipeline, source: DltSource, seen: Seen) -> dict[str, int]:
    """Write when all this was seen again, and by which sync; how many rows a load would write."""
    names = TableNames.of(source)
    with client_of(pipeline, source.schema) as destination:
        client = destination.sql_client
        with client.begin_transaction():
            for table, (key, moving) in MOVING.items():
                _move(client, getattr(names, table), key, moving, seen[table])
            for row in seen["syncs"]:
                _put(client, names.syncs, row)
    counts = {getattr(names, table): len(seen[table]) for table in MOVING}
    counts[f"{names.contacts}__tags"] = sum(len(row["tags"] or ()) for row in seen["contacts"])
    return {table: count for table, count in counts.items() if count}


def _move(
    client: Client, table: str, key: Sequence[str], moving: Sequence[str], rows: Sequence[Row]
) -> None:
    """Write what has moved in these rows of a table; what is dropped of all stays as it is."""
    moving = [one for one in moving if any(row[one] is not None for row in rows)]
    if not moving:
        return
    columns = ("tenant_id", *key, *moving)
    values = ", ".join([f"({', '.join(['%s'] * len(columns))})"] * len(rows))
    client.execute_sql(
        f"UPDATE {client.make_qualified_table_name(table)} AS t "  # noqa: S608
        f"SET {', '.join(f'{one} = v.{one}' for one in moving)} "
        f"FROM (VALUES {values}) AS v ({', '.join(columns)}) "
        f"WHERE {' AND '.join(f't.{one} = v.{one}' for one in ('tenant_id', *key))}",
        *(row[one] for row in rows for one in columns),
    )


def _put(client: Client, table: str, row: Row) -> None:
    """Write the row of a sync, again if it is not known whether it was written."""
    name = client.make_qualified_table_name(table)
    which = f"DELETE FROM {name} WHERE tenant_id = %s AND started_at = %s"  # noqa: S608
    client.execute_sql(which, row["tenant_id"], row["started_at"])
    row |= {"_dlt_id": generate_dlt_ids(1)[0]}
    values = f"({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
    client.execute_sql(f"INSERT INTO {name} {values}", *row.values())
