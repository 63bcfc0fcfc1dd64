"""One thread at a time with a destination that is a file, where several load side by side.

DuckDB takes several writers of one process, but two that change one table fail, and so does one
who opens the file while another closes it. SQLite has one writer. Two merges into one table of
files (Delta, Iceberg, DuckLake) fail as well. A server sorts out by itself who waits for whom.
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import dlt
from dlt.common.runtime import signals
from dlt.common.schema import Schema

from flowiq_source.loading.undocumented import client_of, dialect_of

_POLL_S = 0.2


class Turn:
    """What one thread at a time may hold, as often as it likes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = threading.local()

    def __enter__(self) -> None:
        depth = getattr(self._depth, "value", 0)
        try:
            # Not for ever at once: a signal, or what is raised from outside, ends the wait.
            while not self._lock.acquire(timeout=_POLL_S):
                signals.raise_if_signalled()
            self._depth.value = depth + 1
        except BaseException:
            # It may be raised when the lock was just taken, by the thread that then holds it.
            if not depth and self._lock._is_owned():  # type: ignore[attr-defined] # noqa: SLF001
                self._lock.release()
            self._depth.value = depth
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth.value -= 1
        self._lock.release()


class _Anybody(Turn):
    """The turn at what takes several writers: nobody waits."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


ANYBODY = _Anybody()

_turns: dict[str, Turn] = {}
_of: "WeakKeyDictionary[dlt.Pipeline, Turn]" = WeakKeyDictionary()
_guard = threading.Lock()


def turn_at(pipeline: dlt.Pipeline, schema: Schema) -> Turn:
    """The turn at the pipeline's destination; all pipelines that load one file share it."""
    if pipeline not in _of:
        place = _place(client_of(pipeline, schema))
        with _guard:
            _of[pipeline] = _turns.setdefault(place, Turn()) if place else ANYBODY
    return _of[pipeline]


def _place(client: Any) -> str | None:
    """What only one may write to; None for a server."""
    config = client.config
    kind = str(config.destination_type)
    if kind == "duckdb":
        connection = config.credentials.external_conn()
        if connection is not None:
            return f"connection {id(connection)}"
        return str(Path(config.credentials.database).absolute())
    if dialect_of(client) == "sqlite":
        return str(Path(str(config.credentials.database)).absolute())
    # Whether two of these are one place is not worth finding out.
    return kind if kind in {"ducklake", "filesystem"} else None
