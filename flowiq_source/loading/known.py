"""What is known of a tenant when a run begins: dlt's state, held against the destination."""

from collections.abc import Container
from datetime import datetime, timedelta

from flowiq_source.loading.destination import Committed
from flowiq_source.loading.state import TenantState, to_be_read_whole, to_the_millisecond
from flowiq_source.loading.tables import TableNames
from flowiq_source.reading.cursor import Cursor
from flowiq_source.reading.run import Known
from flowiq_source.settings import Settings

RESUME_WITHIN = timedelta(hours=24)
"""A run goes on with one that was interrupted, unless that began longer ago."""


def known_of(state: TenantState, settings: Settings, now: datetime) -> Known:
    """What the state says, and whether a run goes on with one that broke off."""
    open_run = state.open_run
    resumes = (
        open_run is not None
        and open_run.full_refresh == settings.full_refresh
        and timedelta(0) <= now - open_run.started_at < RESUME_WITHIN
    )
    number, started_at = state.run + 1, to_the_millisecond(now)
    if open_run and resumes:
        number, started_at = state.run, open_run.started_at
    return Known(state.cursors(), number, started_at, state.way, state.list_surplus)


def held_against(
    known: Known,
    state: TenantState,
    committed: Committed,
    tables: TableNames,
    selected: Container[str],
) -> str | None:
    """Why only what the destination has is known: it has not the rows that the state speaks of.

    A backup put back, another warehouse, a table dropped or emptied. Where it has them, the
    conversations with rows of a load package that never came to its end are read whole: no cursor
    knows of those rows.
    """
    read = any(cursor.used for cursor in known.cursors.values())
    why = _why_not(known, state, committed, tables, selected) if read else None
    trusted = read and not why
    readings = committed.readings(tables.messages, unfinished=trusted)
    if readings and not read:
        why = "the destination has messages, and no state of this pipeline speaks of them"
    if not trusted:
        known.cursors = _as_committed(known, committed, tables)
    for contact_id, used, rows in readings:
        cursor = known.cursor(contact_id)
        if not trusted:
            known.cursors[contact_id] = cursor._replace(
                scan=cursor.scan or used, used=max(cursor.used, used), known=rows
            )
        elif used > cursor.used:
            known.cursors[contact_id] = to_be_read_whole(cursor)._replace(used=used)
    return why


def _as_committed(known: Known, committed: Committed, tables: TableNames) -> dict[str, Cursor]:
    """Cursors that know no more than the destination does; the numbers of readings go on rising."""
    cursors = {contact_id: Cursor(used=cursor.used) for contact_id, cursor in known.cursors.items()}
    for contact_id, scan, status in committed.conversations(tables.conversations):
        used = max(scan, known.cursor(contact_id).used)
        cursors[contact_id] = Cursor(scan=scan, used=used, missing=status == "missing")
    return cursors


def _why_not(
    known: Known,
    state: TenantState,
    committed: Committed,
    tables: TableNames,
    selected: Container[str],
) -> str | None:
    if not committed.are_loaded(state.load_ids):
        return "the destination has not loaded what the pipeline's state speaks of"
    if state.has_conversations and committed.is_empty(tables.conversations):
        return f"the table {tables.conversations} is empty or gone in the destination"
    if "messages" not in selected:
        return None
    # What the API has no longer may have been deleted.
    holds = any(cursor.known and not cursor.missing for cursor in known.cursors.values())
    if holds and committed.is_empty(tables.messages):
        return f"the table {tables.messages} is empty or gone in the destination"
    [reactions] = tables.children
    if state.has_reactions and not committed.has_children(tables.messages, reactions):
        return f"the table {reactions} is empty or gone in the destination"
    return None
