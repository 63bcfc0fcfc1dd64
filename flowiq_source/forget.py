"""Forget one person: out of every table, dlt's state, the local folder and the database's files.

What stays is a keyed hash of each id and number, so that no later sync brings the person back.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import dlt

from flowiq_source.committed import committed_state
from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.destination import Client, Committed, sql_of
from flowiq_source.loading.erasure import Dataset, Person, schemas_like
from flowiq_source.loading.lock import sole_sync
from flowiq_source.loading.privacy import check_key, with_the_forgotten
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.rewriting import duckdb_file, rewrite, snapshot_of
from flowiq_source.loading.tables import TableNames
from flowiq_source.loading.undocumented import forget_working_folder
from flowiq_source.rows.identities import identity
from flowiq_source.rows.privacy import Hasher
from flowiq_source.source import FlowiqSource


@dataclass(frozen=True)
class Forgotten:
    """What was removed of a person; nothing in it says who that was.

    `rows` counts what was deleted, by table; `blanked` are messages in other people's
    conversations, of which sender, text and media are gone. `mentions` counts, by column, rows of
    others in which a number, the name or the address of the person still stands: nobody but you
    can say what to do with them. `left` says what is still in the database's files, and why; it
    is empty if nothing is. `snapshot` is a copy of the file that was made before, and has them
    still.
    """

    contacts: int
    rows: dict[str, int] = field(default_factory=dict)
    blanked: int = 0
    mentions: dict[str, int] = field(default_factory=dict)
    left: str = ""
    snapshot: str = ""
    dry_run: bool = False

    @property
    def exit_status(self) -> int:
        """1 where something is left that another run may take away."""
        return int(bool(self.left))

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        rows = ", ".join(f"{table} {n:,}" for table, n in sorted(self.rows.items()))
        nobody = "" if self.contacts else ": nobody here has that number or id"
        lines = [
            f"contacts        {self.contacts} {'found' if self.dry_run else 'forgotten'}{nobody}",
            f"{'rows' if self.dry_run else 'rows deleted':<16}{rows or 'none'}",
        ]
        if self.blanked:
            lines.append(f"blanked         {self.blanked} messages in others' conversations")
        lines += [f"mentioned       in {n} rows of {at}" for at, n in self.mentions.items()]
        if self.left:
            lines.append(f"left            {self.left}")
        if self.snapshot:
            lines.append(f"snapshot        {self.snapshot} is older: make it anew")
        if not self.dry_run:
            lines.append("elsewhere       reports, exports, backups and FlowIQ keep what they have")
        return "\n".join(lines)


def forget(
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    *,
    phone: str | None = None,
    contact: str | None = None,
    dry_run: bool = False,
) -> Forgotten:
    """Remove one person from the pipeline's dataset, and keep later syncs from bringing them back.

    Killed at any point it can be run again, and ends the same. Nothing is asked of FlowIQ, where
    the person has to be erased as well.

    Args:
        pipeline: The pipeline that loads the dataset; DuckDB or PostgreSQL.
        source: The source that it loads, for its settings; `hash_key` must be set.
        phone: A number, however it is written: every contact that has it or had it.
        contact: A contact's id instead, of the API or as the tables have it.
        dry_run: Change nothing, and say what would be removed.

    Raises:
        Busy: another process syncs with this pipeline.
        ConfigurationError: neither or both are given, or the dataset cannot be asked or changed so.
        DestinationError: the destination refuses or is away; no row's text is in it.
    """
    find = _finding(phone, contact)
    hasher = source.feed.policy.hasher
    if hasher is None:
        raise ConfigurationError(
            "sources.flowiq.hash_key is not set: forget keeps a hash of who was forgotten, and "
            "without a secret anybody could try all numbers; put what `openssl rand -hex 32` "
            "prints into .dlt/secrets.toml, and keep it"
        )
    kind = pipeline.destination.destination_type.rpartition(".")[2]
    if kind not in ("duckdb", "postgres"):
        raise ConfigurationError(f"forget knows DuckDB and PostgreSQL, and not {kind}")
    done = without_row_texts(
        pipeline, lambda: _forget(pipeline, source, hasher, find, dry_run=dry_run)
    )
    file = duckdb_file(pipeline, source.schema) if kind == "duckdb" else None
    copy = file and snapshot_of(file)
    return replace(done, snapshot=str(copy)) if copy and copy.exists() else done


def _forget(
    pipeline: dlt.Pipeline,
    source: FlowiqSource,
    hasher: Hasher,
    find: Callable[[Dataset], Person],
    *,
    dry_run: bool,
) -> Forgotten:
    with sole_sync(pipeline):
        state = committed_state(pipeline, source)
        check_key(source.feed.policy, state)
        if not dry_run:
            forget_working_folder(pipeline)
        with sql_of(pipeline, source.schema) as client:
            if client is None:
                raise ConfigurationError("forget needs a destination that answers SQL")
            committed = Committed(client, source.feed.settings.tenant_key)
            # Another key's tombstones would find nobody.
            with_the_forgotten(source.feed.policy, state, committed, TableNames.of(source))
            schemas = schemas_like(client, client.dataset_name)
            done = _erased(client, source, hasher, find, schemas, dry_run=dry_run)
        return done if dry_run else replace(done, left=rewrite(pipeline, source.schema, schemas))


def _finding(phone: str | None, contact: str | None) -> Callable[[Dataset], Person]:
    if (phone is None) == (contact is None):
        raise ConfigurationError("forget takes a phone number or a contact id, one of them")
    if contact is not None:
        if not contact.strip():
            raise ConfigurationError("forget: the contact id is empty")
        return lambda dataset: dataset.find_by_contact(contact)
    who = identity(phone or "")
    if who is None or who.kind == "other":
        raise ConfigurationError(
            "forget: the phone number is none; write it with its country code, "
            "such as +27 12 345 6789"
        )
    return lambda dataset: dataset.find_by_number(who.value)


def _erased(  # noqa: PLR0913 - what an erasure needs, each from elsewhere
    client: Client,
    source: FlowiqSource,
    hasher: Hasher,
    find: Callable[[Dataset], Person],
    schemas: Sequence[str],
    *,
    dry_run: bool,
) -> Forgotten:
    def here() -> Dataset:
        tenant, pseudonymise = source.feed.settings.tenant_key, source.feed.policy.pseudonymise
        return Dataset(client, names, tenant, hasher, pseudonymise)

    names = TableNames.of(source)
    main = here()
    if not main.catalog.keys() & {names.contacts, names.messages, names.conversations}:
        raise ConfigurationError(
            f"forget finds no tables {names.contacts} and {names.messages} in the dataset: "
            "sync first, or check dataset_name"
        )
    person = find(main)
    contacts = len(person.contacts & main.known_contacts())
    if dry_run:
        return Forgotten(contacts, *main.erase(person, dry_run=True), dry_run=True)
    with client.begin_transaction():
        for schema in set(schemas) - {client.dataset_name}:
            # A staging dataset may hold what the last package brought.
            with client.with_alternative_dataset_name(schema):
                here().erase(person)
        rows, blanked = main.erase(person)
        main.forget_cursors(person)
        main.remember(person, source.feed.now())
        return Forgotten(contacts, rows, blanked, main.mentions(person))
