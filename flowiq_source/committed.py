"""What the destination says of a pipeline, whatever lies in the working folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dlt
from dlt.common.destination.client import JobClientBase, WithStateSync
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.state_sync import load_pipeline_state_from_destination

from flowiq_source.loading.destination import Client, Committed
from flowiq_source.loading.files import answers_of, are_files
from flowiq_source.loading.privacy import check_key, with_the_forgotten
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.state import TenantState
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.undocumented import client_of
from flowiq_source.rows.privacy import Policy
from flowiq_source.source import FlowiqSource


@contextmanager
def reading(pipeline: dlt.Pipeline, source: FlowiqSource) -> Iterator[JobClientBase]:
    """The destination's client; a DuckDB file is opened beside others who read it, and not made."""
    with ExitStack() as stack:
        client = client_of(pipeline, source.schema)
        if pipeline.destination.destination_type.endswith(".duckdb"):
            _as_it_is(client.config.credentials)
            try:
                stack.enter_context(client)
            except Exception:  # noqa: BLE001 - this process may have it open to write
                client = stack.enter_context(client_of(pipeline, source.schema))
        else:
            stack.enter_context(client)
        yield client


def _as_it_is(credentials: DuckDbCredentials) -> None:
    """Have the file read only, and nothing where there is none: DuckDB would make it."""
    if credentials.external_conn() is None and not Path(credentials.database).exists():
        credentials.database = ":memory:"
    else:
        credentials.read_only = True


@contextmanager
def answering(pipeline: dlt.Pipeline, source: FlowiqSource) -> Iterator[Client | None]:
    """SQL on what is committed, files among it; None where there is none."""
    if are_files(pipeline):
        with answers_of(pipeline, source) as answers:
            yield answers
        return
    with reading(pipeline, source) as client:
        yield client.sql_client if isinstance(client, SqlJobClientBase) else None


def committed_state(pipeline: dlt.Pipeline, source: FlowiqSource) -> TenantState:
    """The tenant's state as the destination has it.

    Raises:
        DestinationError: the destination refuses or is away.
    """
    return without_row_texts(pipeline, lambda: _committed_state(pipeline, source))


def _committed_state(pipeline: dlt.Pipeline, source: FlowiqSource) -> TenantState:
    with reading(pipeline, source) as client:
        state: Any = None
        try:
            if isinstance(client, WithStateSync):
                state = load_pipeline_state_from_destination(pipeline.pipeline_name, client)
        except DestinationUndefinedEntity:
            # Nothing was ever loaded.
            state = None
    return TenantState.of(messages_state(state or {}, source), source.feed.settings.tenant_key)


def forgetting(pipeline: dlt.Pipeline, source: FlowiqSource, state: TenantState) -> Policy:
    """The source's policy with the destination's tombstones; it is refused where a sync's would be.

    Raises:
        ConfigurationError: the dataset was loaded by another policy.
        DestinationError: the destination refuses or is away.
    """

    def ask() -> Policy:
        with reading(pipeline, source) as client:
            if not isinstance(client, SqlJobClientBase):
                return policy
            committed = Committed(client.sql_client, source.feed.settings.tenant_key)
            return with_the_forgotten(policy, state, committed, TableNames.of(source))

    policy = source.feed.policy
    check_key(policy, state)
    return without_row_texts(pipeline, ask)


def messages_state(state: Any, source: FlowiqSource) -> dict[str, Any]:
    """The state of the resource `messages`."""
    for name in ("sources", source.schema.name, "resources", "messages"):
        state = state.setdefault(name, {})
    messages: dict[str, Any] = state
    return messages
