"""One person's rows, in every table of a dataset: found, counted, deleted, remembered as a hash.

Where rows were hashed, a number stands in them as its hash; so whatever is looked for is looked
for in both forms.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from dlt.common.versioned_state import (
    compress_state,
    decompress_state,
    generate_state_version_hash,
)

from flowiq_source.loading.destination import FORGOTTEN, Client, Committed
from flowiq_source.loading.tables import TableNames
from flowiq_source.rows.privacy import STAYS, Hasher, is_hash, normal

STATES = "_dlt_pipeline_state"

_SHORTEST = 7
"""Characters of a number that is looked for in texts; a shorter one stands in many by chance."""

Catalog = dict[str, dict[str, str]]
"""The tables of a schema, with their columns and their types."""


@dataclass
class Person:
    """Who is to be forgotten: contact ids, and values that stand for a person, as rows have them.

    `words` are a name and an address; they are looked for in what others wrote.
    """

    contacts: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    record_ids: set[str] = field(default_factory=set)
    """Of their messages, as `rejected_rows` has them."""


class Part(NamedTuple):
    """Rows of one table: a condition and its values."""

    table: str
    where: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Dataset:
    """A tenant's rows in one schema of a database, and what its tables are called."""

    client: Client
    names: TableNames
    tenant_id: str
    hasher: Hasher
    pseudonymised: bool
    catalog: Catalog = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog.update(_catalog(self.client))

    def forms(self, values: Collection[str]) -> set[str]:
        """The values and their hashes."""
        return {form for value in values for form in (value, self._hash(value))}

    def _hash(self, value: str) -> str:
        return value if is_hash(value) else self.hasher.exact(value)

    def _tombstone(self, contact: str) -> str:
        """The hash of a contact's id; where ids that say who somebody is are hashed, that."""
        is_pseudonym = self.pseudonymised and is_hash(contact)
        return contact if is_pseudonym else self.hasher.exact(contact)

    def name(self, table: str) -> str:
        """The table's name in SQL."""
        return self.client.make_qualified_table_name(table)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query answers."""
        return [tuple(row) for row in self.client.execute_sql(sql, *values) or ()]

    def find_by_number(self, number: str) -> Person:
        """Everybody who has the number or had it."""
        found = self.forms({number})
        contacts = set()
        names = self.names
        for table, column, whose in (
            (names.contact_identities, "value", "contact_id"),
            (names.contacts, "whatsapp_id", "id"),
            (names.contacts, "phone_number", "id"),
            (names.conversations, "whatsapp_id", "contact_id"),
            (names.messages, "whatsapp_id", "contact_id"),
        ):
            contacts |= {
                contact
                for contact, text in self._distinct(table, whose, column)
                if text and (normal(text) in found)
            }
        contacts |= {contact for contact in self.known_contacts() if contact in found}
        return self._described(Person(contacts, {number}))

    def find_by_contact(self, contact: str) -> Person:
        """The contact with this id of the API, or this pseudonym."""
        known = self.forms({contact}) & self.known_contacts()
        return self._described(Person(known or {contact}))

    def known_contacts(self) -> set[str]:
        """The contacts of whom there is any row."""
        names = self.names
        keys = {names.contacts: "id"}
        keys |= dict.fromkeys(
            (names.contact_identities, names.conversations, names.messages), "contact_id"
        )
        return {row[0] for table, key in keys.items() for row in self._distinct(table, key)}

    def _distinct(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        if not self.catalog.get(table, {}).keys() >= {"tenant_id", *columns}:
            return []
        listed = ", ".join(columns)
        sql = f"SELECT DISTINCT {listed} FROM {self.name(table)} WHERE tenant_id = %s"  # noqa: S608
        return self.rows(sql, self.tenant_id)

    def _described(self, person: Person) -> Person:
        names = self.names
        for table, whose, columns in (
            (names.contact_identities, "contact_id", ("value",)),
            (names.contacts, "id", ("whatsapp_id", "phone_number")),
            (names.conversations, "contact_id", ("whatsapp_id",)),
            (names.messages, "contact_id", ("whatsapp_id",)),
        ):
            for column in columns:
                texts = self._of(person, table, whose, column)
                person.values |= {normal(text) for text in texts}
        for column in ("full_name", "email"):
            person.words |= set(self._of(person, names.contacts, "id", column))
        # A number that somebody else has or had is not this person's alone.
        person.values -= self._values_of_others(person)
        # A first name stands in many a text.
        person.words = {word for word in person.words if " " in word.strip() or "@" in word}
        rejected = {row[0] for row in self._distinct(names.rejected_rows, "record_id")}
        messages = self._of(person, names.messages, "contact_id", "id")
        person.record_ids = rejected & (person.contacts | set(messages))
        return person

    def _of(self, person: Person, table: str, whose: str, column: str) -> list[str]:
        """The distinct values of a column in the rows of a person."""
        if not (person.contacts and self.catalog.get(table, {}).keys() >= {whose, column}):
            return []
        mine = self._contact_rows(table, whose, person)
        sql = f"SELECT DISTINCT {column} FROM {self.name(table)} WHERE {mine.where}"  # noqa: S608
        return [text for (text,) in self.rows(sql, *mine.values) if text]

    def _values_of_others(self, person: Person) -> set[str]:
        names = self.names
        others: set[str] = set()
        for table, whose, column in (
            (names.contact_identities, "contact_id", "value"),
            (names.contacts, "id", "whatsapp_id"),
        ):
            pairs = self._distinct(table, whose, column)
            others |= {text for contact, text in pairs if text and contact not in person.contacts}
        return others

    def _contact_rows(self, table: str, whose: str, person: Person) -> Part:
        marks = _marks(person.contacts)
        where = f"tenant_id = %s AND {whose} IN ({marks})"
        return Part(table, where, (self.tenant_id, *sorted(person.contacts)))

    def parts(self, person: Person) -> Iterator[Part]:
        """The rows that are the person's, children before their parents."""
        names = self.names
        if person.contacts:
            for table, whose in (
                (names.contacts, "id"),
                (names.contact_identities, "contact_id"),
                (names.messages, "contact_id"),
                (names.conversations, "contact_id"),
            ):
                if table in self.catalog:
                    mine = self._contact_rows(table, whose, person)
                    yield from self._children(table, mine)
                    yield mine
        yield from self._reactions(person)
        yield from self._rejected(person)

    def _children(self, table: str, parents: Part) -> Iterator[Part]:
        which = f"SELECT _dlt_id FROM {self.name(table)} WHERE {parents.where}"  # noqa: S608
        for child, columns in self.catalog.items():
            if child.startswith(f"{table}__"):
                key = "_dlt_root_id" if "_dlt_root_id" in columns else "_dlt_parent_id"
                yield Part(child, f"{key} IN ({which})", parents.values)

    def _reactions(self, person: Person) -> Iterator[Part]:
        """What the person put on messages of others' conversations."""
        for table in self.names.children:
            columns = self.catalog.get(table, {})
            key = "_dlt_root_id" if "_dlt_root_id" in columns else "_dlt_parent_id"
            if not columns.keys() >= {"sender", key} or self.names.messages not in self.catalog:
                continue
            sql = f"SELECT DISTINCT sender FROM {self.name(table)}"  # noqa: S608
            senders = self._written(person, (text for (text,) in self.rows(sql)))
            if senders:
                ours = f"SELECT _dlt_id FROM {self.name(self.names.messages)} WHERE tenant_id = %s"  # noqa: S608
                where = f"{key} IN ({ours}) AND sender IN ({_marks(senders)})"
                yield Part(table, where, (self.tenant_id, *senders))

    def _written(self, person: Person, texts: Iterator[str | None]) -> list[str]:
        """Those of the texts that are a value of the person's, however they are written."""
        values = self.forms(person.values)
        return sorted(text for text in texts if text and normal(text) in values)

    def _rejected(self, person: Person) -> Iterator[Part]:
        """What did not fit: of the person's rows, and wherever a number of theirs stands."""
        if self.names.rejected_rows not in self.catalog:
            return
        ids, terms = sorted(person.record_ids), self._terms(person)
        mine = [f"record_id IN ({_marks(ids)})"] if ids else []
        mine += ["position(%s IN raw) > 0"] * len(terms)
        if mine:
            where = f"tenant_id = %s AND ({' OR '.join(mine)})"
            yield Part(self.names.rejected_rows, where, (self.tenant_id, *ids, *terms))

    def _terms(self, person: Person) -> list[str]:
        values = {value for value in person.values if len(value) >= _SHORTEST}
        return sorted(values | person.words)

    def blanked(self, person: Person) -> Iterator[tuple[Part, list[str]]]:
        """Messages of others' conversations that the person sent, and the columns to empty."""
        columns = self.catalog.get(self.names.messages, {})
        senders = [text for (text,) in self._distinct(self.names.messages, "sender")]
        mine = self._written(person, iter(senders))
        if mine:
            where = f"tenant_id = %s AND sender IN ({_marks(mine)})"
            part = Part(self.names.messages, where, (self.tenant_id, *mine))
            yield part, [name for name in columns if name not in STAYS and name[:4] != "_dlt"]

    def erase(self, person: Person, *, dry_run: bool = False) -> tuple[dict[str, int], int]:
        """How many rows are the person's, by table, and how many are blanked; then they are."""
        rows: Counter[str] = Counter()
        for part in self.parts(person):
            if found := self.count(part):
                rows[part.table] += found
                if not dry_run:
                    self.delete(part)
        blanked = 0
        for part, columns in self.blanked(person):
            blanked += self.count(part)
            if not dry_run:
                self.blank(part, columns)
        return dict(rows), blanked

    def count(self, part: Part) -> int:
        """How many rows a part has."""
        sql = f"SELECT count(*) FROM {self.name(part.table)} WHERE {part.where}"  # noqa: S608
        return int(self.rows(sql, *part.values)[0][0])

    def delete(self, part: Part) -> None:
        """Delete a part."""
        sql = f"DELETE FROM {self.name(part.table)} WHERE {part.where}"  # noqa: S608
        self.client.execute_sql(sql, *part.values)

    def blank(self, part: Part, columns: Collection[str]) -> None:
        """Empty columns of a part."""
        nulls = ", ".join(f"{self.client.escape_column_name(name)} = NULL" for name in columns)
        sql = f"UPDATE {self.name(part.table)} SET {nulls} WHERE {part.where}"  # noqa: S608
        self.client.execute_sql(sql, *part.values)

    def mentions(self, person: Person) -> dict[str, int]:
        """Rows of other people in which a number, a name or an address of the person stands."""
        found: dict[str, int] = {}
        terms = self._terms(person)
        for table, columns in self.catalog.items():
            for column, data_type in columns.items():
                ours = table == FORGOTTEN or table.startswith("_dlt")
                if terms and _is_text(data_type) and not ours:
                    where = " OR ".join(
                        [f"position(%s IN {self.client.escape_column_name(column)}) > 0"]
                        * len(terms)
                    )
                    if rows := self.count(Part(table, where, tuple(terms))):
                        found[f"{table}.{column}"] = rows
        return found

    def forget_cursors(self, person: Person) -> None:
        """Take the person out of every state of dlt in the dataset, whatever pipeline's it is."""
        if STATES not in self.catalog:
            return
        states = self.name(STATES)
        for row_id, text in self.rows(f"SELECT _dlt_id, state FROM {states}"):  # noqa: S608
            state = decompress_state(text)
            if _without_cursors(state, self.tenant_id, person.contacts, self._is_empty):
                state["_state_version"] += 1
                state["_version_hash"] = generate_state_version_hash(state, ["_local"])  # type: ignore[arg-type]
                self.client.execute_sql(
                    f"UPDATE {states} SET state = %s, version = %s, version_hash = %s "  # noqa: S608
                    "WHERE _dlt_id = %s",
                    compress_state(state),  # type: ignore[arg-type]
                    state["_state_version"],
                    state["_version_hash"],
                    row_id,
                )

    def _is_empty(self, table: str) -> bool:
        """Whether a table that the state says to have rows of the tenant has none any more."""
        committed, [reactions] = Committed(self.client, self.tenant_id), self.names.children
        name = {"reactions": reactions, "conversations": self.names.conversations}[table]
        if name not in self.catalog:
            return True
        if table == "conversations":
            return committed.is_empty(name)
        return not committed.has_children(self.names.messages, name)

    def remember(self, person: Person, at: datetime) -> None:
        """Set a tombstone for each id and number: hashes, by which the next sync knows them."""
        table = self.name(FORGOTTEN)
        self.client.execute_sql(
            f"CREATE TABLE IF NOT EXISTS {table} (tenant_id varchar NOT NULL, "
            "value varchar NOT NULL, key_id varchar NOT NULL, "
            "forgotten_at timestamp with time zone NOT NULL)"
        )
        sql = f"SELECT value FROM {table} WHERE tenant_id = %s"  # noqa: S608
        there = {value for (value,) in self.rows(sql, self.tenant_id)}
        hashes = {*map(self._tombstone, person.contacts), *map(self._hash, person.values)}
        for value in sorted(hashes - there):
            insert = f"INSERT INTO {table} VALUES (%s, %s, %s, %s)"  # noqa: S608
            self.client.execute_sql(insert, self.tenant_id, value, self.hasher.key_id, at)


def _catalog(client: Client) -> Catalog:
    """The tables of the client's schema; no views."""
    sql = (
        "SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c "
        "JOIN information_schema.tables t ON t.table_schema = c.table_schema "
        "AND t.table_name = c.table_name AND t.table_catalog = c.table_catalog "
        "WHERE c.table_schema = %s AND t.table_type = 'BASE TABLE' "
        "AND c.table_catalog = current_database() ORDER BY 1, c.ordinal_position"
    )
    catalog: Catalog = {}
    for table, column, data_type in client.execute_sql(sql, client.dataset_name) or ():
        catalog.setdefault(table, {})[column] = data_type
    return catalog


def schemas_like(client: Client, dataset_name: str) -> list[str]:
    """The dataset and its staging datasets, as far as there are any."""
    sql = (
        "SELECT schema_name FROM information_schema.schemata WHERE catalog_name = "
        "current_database() AND (schema_name IN (%s, %s) OR starts_with(schema_name, %s))"
    )
    wanted = (dataset_name, client.staging_dataset_name, f"{dataset_name}_staging")
    return sorted({row[0] for row in client.execute_sql(sql, *wanted) or ()})


def _marks(values: Collection[str]) -> str:
    return ", ".join(["%s"] * len(values))


def _is_text(data_type: str) -> bool:
    return data_type.lower() in {"varchar", "text", "character varying", "json"}


def _without_cursors(
    state: Any, tenant_id: str, contacts: Collection[str], is_empty: Callable[[str], bool]
) -> bool:
    """Take contacts out of a state of dlt; whether any was in it."""
    changed = False
    for source in state.get("sources", {}).values():
        for resource in source.get("resources", {}).values():
            tenant = resource.get("tenants", {}).get(tenant_id, {})
            cursors = tenant.get("cursors", {})
            there = cursors.keys() & set(contacts)
            for contact in there:
                del cursors[contact]
            if there:
                # Else the next sync would take it for lost, and read everything again.
                filled = tenant.get("tables", ())
                tenant["tables"] = [table for table in filled if not is_empty(table)]
            changed = changed or bool(there)
    return changed
