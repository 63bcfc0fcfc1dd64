"""One sync at a time for a tenant's dataset in PostgreSQL, whatever machine it runs on.

The lease is PostgreSQL's own: an advisory lock of a session. It needs no renewal and no clock. It
ends with the session, so with the process that holds it, and a machine that is gone loses it
when the server finds its connection dead, about a minute later.
"""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import dlt
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseException

from flowiq_source.errors import Busy
from flowiq_source.loading.destination import Client, sql_of

HELD_BY = """
    SELECT a.application_name, a.backend_start FROM pg_locks l
    JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted
        AND ((l.classid::bigint << 32) | l.objid::bigint) = %s"""

_SETTINGS = (
    # A machine that has vanished, or sleeps, is found out in a minute.
    "SET tcp_keepalives_idle = 30",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
    "SET idle_session_timeout = 0",
)

Check = Callable[[], None]
"""Raises Busy where the lease has been lost."""


@contextmanager
def lease(pipeline: dlt.Pipeline, schema: Schema, tenant_id: str) -> Iterator[Check]:
    """Hold the tenant's lease, where the destination is a PostgreSQL.

    What is handed out has to be called before anything is committed: a process that was paused
    until its session was ended must not go on, because another may have taken over.

    Raises:
        Busy: another machine or process holds it; the text says which and since when.
    """
    is_postgres = pipeline.destination.destination_type.endswith("postgres")
    with sql_of(pipeline, schema) if is_postgres else nullcontext() as client:
        if client is None:
            yield lambda: None
            return
        number = _number(client.fully_qualified_dataset_name(), tenant_id)
        _introduce(client)
        [[held]] = client.execute_sql("SELECT pg_try_advisory_lock(%s)", number) or [[False]]
        if not held:
            raise Busy(f"syncing this tenant into the dataset: {_holder(client, number)}")
        yield lambda: _check(client, number)


def _number(dataset: str, tenant_id: str) -> int:
    """The lock's number: 63 bits, because PostgreSQL's is signed."""
    digest = hashlib.sha256(f"flowiq\n{dataset}\n{tenant_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _introduce(client: Client) -> None:
    who = f"process {os.getpid()} on {socket.gethostname()}"
    client.execute_sql("SELECT set_config('application_name', %s, false)", f"flowiq, {who}"[:63])
    for setting in _SETTINGS:
        # An older server, or one behind a pool, may not know it.
        with suppress(DatabaseException):
            client.execute_sql(setting)


def _holder(client: Client, number: int) -> str:
    rows = client.execute_sql(HELD_BY, number)
    if not rows:
        return "another sync has just ended; run again"
    name, since = rows[0]
    who = str(name).removeprefix("flowiq, ") or "another session"
    return (
        f"{who} has been doing that since {since:%Y-%m-%d %H:%M:%S} UTC; "
        "run again when it has ended"
    )


def _check(client: Client, number: int) -> None:
    try:
        held = client.execute_sql(f"{HELD_BY} AND l.pid = pg_backend_pid()", number)
    except DatabaseException:
        held = None
    if not held:
        raise Busy(
            "syncing this tenant: the session that held its lease was ended, so another sync may "
            "have begun; nothing more is written: run again"
        )
