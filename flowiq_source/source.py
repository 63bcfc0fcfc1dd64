"""The dlt source: six resources that share one run.

    contacts   contact_identities   messages   conversations   rejected_rows   syncs

Each is a resource of its own. What they share, so that every page is asked for once, is the
`Feed` in `loading/feed.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.schema import Schema
from dlt.extract import DltResource, DltSource

from flowiq_source.loading import tables
from flowiq_source.loading.feed import Feed
from flowiq_source.loading.incremental import incremental_of
from flowiq_source.settings import PRODUCTION_URL, REQUESTS_PER_MINUTE, Backend, Settings

if TYPE_CHECKING:
    from typing_extensions import Self


class FlowiqSource(DltSource):
    """A dlt source that `sync`, `plan` and `verify` can ask for its settings and its run."""

    feed: Feed

    @classmethod
    def from_data(cls, schema: Schema, section: str, data: Any) -> "Self":
        """The source of a feed."""
        source = super().from_data(schema, section, resources(data))
        source.feed = data
        # Text that looks like a time is text: nobody documented that it is one.
        source.schema.remove_type_detection("iso_timestamp")
        return source

    def clone(self, with_name: str | None = None) -> "FlowiqSource":
        """A copy, perhaps by another name, of the same feed."""
        schema = self.schema.clone(with_name=with_name)  # type: ignore[arg-type] # None keeps it
        copy = FlowiqSource(schema, self.section, list(self.resources.values()))
        copy.feed = self.feed
        return copy


@dlt.source(
    name="flowiq",
    section="flowiq",
    spec=Settings,
    root_key=True,
    max_table_nesting=2,
    _impl_cls=FlowiqSource,
)
def flowiq_source(
    bearer_token: str = dlt.secrets.value,
    tenant_id: str | None = None,
    base_url: str = PRODUCTION_URL,
    *,
    phone_numbers: Sequence[str] | None = None,
    lookback_days: float = Settings.lookback_days,
    start_date: str | date | datetime | None = None,
    end_date: str | date | datetime | None = None,
    full_refresh: bool = False,
    rescan_share: float = 0.0,
    requests_per_minute: float = REQUESTS_PER_MINUTE,
    rate_limit_share: float = 1.0,
    max_requests: int | None = None,
    max_minutes: float | None = None,
    backend: Backend = "rows",
    package_conversations: int = Settings.package_conversations,
    package_minutes: float = Settings.package_minutes,
    delete_gone: bool = False,
    force: bool = False,
    columns: Mapping[str, str] | None = None,
    pseudonymise: bool = False,
    keep_undocumented: Sequence[str] | None = None,
    hash_key: str | None = None,
    duckdb_storage_version: str = Settings.duckdb_storage_version,
    table_format: str | None = None,
    settings: Settings = dlt.config.value,
) -> Feed:
    """`contacts`, `messages` and what is known of them, of one FlowIQ tenant.

    Every argument that is not given comes from dlt's config, `sources.flowiq.…`.

    Args:
        bearer_token: The API key.
        tenant_id: The organisation; sent with every request when it is set.
        base_url: Scheme, host and port of the API.
        phone_numbers: Only these contacts and their conversations, instead of all.
        lookback_days: How far behind a conversation's newest message changes are looked for.
        start_date: With `end_date`, a stateless backfill: messages from then on, UTC.
        end_date: The backfill ends before this time; left out, when the source is made.
        full_refresh: Read every conversation to its beginning, whatever is known of it.
        rescan_share: So many more requests, as a share of a sync's own, for reading the
            conversations to their beginning whose last such reading is longest ago.
        requests_per_minute: What the account allows; kept to by the whole process.
        rate_limit_share: How much of that to use; the rest is left to other programs.
        max_requests: What a run may spend; the conversations that it leaves are read by the next.
        max_minutes: After how long a run begins no more conversations.
        backend: `rows` hands out dicts, `pyarrow` tables where rows are flat and Parquet is
            loaded: faster, and without `add_map`, `add_filter` and the like on `messages`.
        package_conversations: `sync` closes a load package after so many conversations,
        package_minutes: or after so many minutes.
        delete_gone: `sync` deletes the messages that the API no longer has.
        force: Believe it when more than a tenth of the conversations vanish at once.
        columns: What happens to a column before anything is stored, `keep`, `hash` or `drop`:
            `{"messages.content": "drop"}`.
        pseudonymise: Hash or drop what says who a person is, in every table.
        keep_undocumented: The only undocumented fields that are kept; without it all of them, and
            with `pseudonymise` none.
        hash_key: The secret that hashes are made with, 32 characters or more.
        duckdb_storage_version: `sync` makes a new DuckDB file for this version of DuckDB and later
            ones; `latest` for its own.
        table_format: `delta` or `iceberg`, where the destination is files.
        settings: All of these in one object, as dlt has resolved and checked them.

    Raises:
        ConfigurationError: a setting is misspelt or cannot be right.
        ConfigurationException: dlt's own, of one that is missing, or has another type in its files.
    """
    return Feed(settings)


def resources(feed: Feed) -> Sequence[DltResource]:
    """The resources that a feed brings the rows of."""
    in_format = partial(tables.in_format, table_format=feed.settings.table_format)

    @dlt.resource(**in_format(tables.CONTACTS))
    def contacts() -> Iterator[Any]:
        """One row per contact."""
        yield from feed.contacts()

    @dlt.resource(**in_format(tables.CONTACT_IDENTITIES))
    def contact_identities() -> Iterator[Any]:
        """One row per number or id that a contact has had."""
        yield from feed.contact_identities()

    @dlt.resource(**in_format(tables.MESSAGES))
    def messages() -> Iterator[Any]:
        """One row per message, with its reactions."""
        yield from feed.messages()

    @dlt.resource(**in_format(tables.CONVERSATIONS))
    def conversations() -> Iterator[Any]:
        """One row per conversation: what the last sync saw of it."""
        yield from feed.conversations()

    @dlt.resource(**in_format(tables.REJECTED_ROWS))
    def rejected_rows() -> Iterator[Any]:
        """One row per value that does not fit its column."""
        yield from feed.rejected_rows()

    @dlt.resource(**in_format(tables.SYNCS))
    def syncs() -> Iterator[Any]:
        """One row per sync: when it ran, and how much of everything it read."""
        yield from feed.syncs()

    messages.apply_hints(incremental=incremental_of(feed.settings, feed.now()))
    return contacts, contact_identities, messages, conversations, rejected_rows, syncs
