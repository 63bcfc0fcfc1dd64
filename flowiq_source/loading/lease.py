"""One sync at a time for a tenant's dataset in a server, whatever machine it runs on.

The lease is the server's own: a lock that a session of PostgreSQL, MySQL or MariaDB holds. It needs
no renewal and no clock. It ends with the session, so with the process that holds it, and a machine
that is gone loses it when the server finds its connection dead: PostgreSQL about a minute later.
"""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import NamedTuple

import dlt
from dlt.common.runtime import signals
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseException

from flowiq_source.errors import Busy
from flowiq_source.loading.destination import Client, sql_of
from flowiq_source.loading.undocumented import client_of, dialect_of


class _Locks(NamedTuple):
    """What a kind of server is asked, each with the lock's number."""

    take: str
    """Whether it is ours now."""
    holder: str
    """Who holds it, and since when, as far as the server tells."""
    is_ours: str
    """A row if it still is."""
    release: str
    """A session may be kept in a pool, and the lock with it."""


_POSTGRES_HOLDER = """
    SELECT a.application_name, a.backend_start FROM pg_locks l
    JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted
        AND ((l.classid::bigint << 32) | l.objid::bigint) = %s"""

_LOCKS = {
    "postgres": _Locks(
        "SELECT pg_try_advisory_lock(%s)",
        _POSTGRES_HOLDER,
        f"{_POSTGRES_HOLDER} AND l.pid = pg_backend_pid()",
        "SELECT pg_advisory_unlock(%s)",
    ),
    "mysql": _Locks(
        "SELECT GET_LOCK(concat('flowiq ', %s), 0)",
        "SELECT concat('a session from ', host), NULL FROM information_schema.processlist "
        "WHERE id = IS_USED_LOCK(concat('flowiq ', %s))",
        "SELECT 1 FROM (SELECT IS_USED_LOCK(concat('flowiq ', %s)) AS id) held "
        "WHERE id = CONNECTION_ID()",
        "SELECT RELEASE_LOCK(concat('flowiq ', %s))",
    ),
}
"""By the SQL that the server speaks."""

_SETTINGS = (
    # A machine that has vanished, or sleeps, is found out in a minute.
    "SET tcp_keepalives_idle = 30",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
    "SET idle_session_timeout = 0",
)

_POLL_S = 0.2

Check = Callable[[], None]
"""Raises Busy where the lease has been lost."""


@contextmanager
def lease(pipeline: dlt.Pipeline, schema: Schema, tenant_id: str) -> Iterator[Check]:
    """Hold the tenant's lease, where the destination is a server that has locks for it.

    What is handed out has to be called before anything is committed: a process that was paused
    until its session was ended must not go on, because another may have taken over.

    Raises:
        Busy: another machine or process holds it; the text says which and since when.
    """
    with _session(pipeline, schema) as session:
        if session is None:
            yield lambda: None
            return
        client, locks = session
        number = lock_number(client.fully_qualified_dataset_name(), tenant_id)
        with _taken(client, locks, number) as is_ours:
            if not is_ours:
                holder = _holder(client, locks, number)
                raise Busy(f"syncing this tenant into the dataset: {holder}")
            yield lambda: _check(client, locks, number)


@contextmanager
def staging(pipeline: dlt.Pipeline, schema: Schema) -> Iterator[None]:
    """Have the staging dataset for the block, in a server; whoever has it is waited for.

    Tenants that load into one dataset share it, unless they were given one each, and dlt empties
    its tables when a load begins.
    """
    with _session(pipeline, schema) as session:
        if session is None:
            yield
            return
        client, locks = session
        number = lock_number(client.staging_dataset_name, "staging")
        while True:
            with _taken(client, locks, number) as is_ours:
                if is_ours:
                    yield
                    return
            signals.sleep(_POLL_S)


@contextmanager
def _session(pipeline: dlt.Pipeline, schema: Schema) -> Iterator[tuple[Client, _Locks] | None]:
    """A connection that can hold locks; None where the destination has none."""
    locks = _LOCKS.get(dialect_of(client_of(pipeline, schema)))
    with sql_of(pipeline, schema) if locks else nullcontext() as client:
        if client is None or locks is None:
            yield None
            return
        if locks is _LOCKS["postgres"]:
            _introduce(client)
        yield client, locks


@contextmanager
def _taken(client: Client, locks: _Locks, number: int) -> Iterator[bool]:
    """Whether a lock could be had, for the block."""
    [[held]] = client.execute_sql(locks.take, number) or [[False]]
    try:
        yield bool(held)
    finally:
        if held:
            with suppress(DatabaseException):
                client.execute_sql(locks.release, number)


def lock_number(dataset: str, tenant_id: str) -> int:
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


def _holder(client: Client, locks: _Locks, number: int) -> str:
    rows = client.execute_sql(locks.holder, number)
    if not rows:
        return "another sync has just ended; run again"
    name, since = rows[0]
    who = str(name).removeprefix("flowiq, ") or "another session"
    when = f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
    return f"{who} has been doing that{when}; run again when it has ended"


def _check(client: Client, locks: _Locks, number: int) -> None:
    try:
        held = client.execute_sql(locks.is_ours, number)
    except DatabaseException:
        held = None
    if not held:
        raise Busy(
            "syncing this tenant: the session that held its lease was ended, so another sync may "
            "have begun; nothing more is written: run again"
        )
