"""The policy that the settings make, and whether it is the one that the dataset was loaded by."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading import tables
from flowiq_source.loading.destination import Committed
from flowiq_source.loading.state import TenantState
from flowiq_source.loading.tables import TableNames
from flowiq_source.rows.columns import CONTACT, MESSAGE, OUR_COLUMNS, REACTION, TABLES, UNDOCUMENTED
from flowiq_source.rows.extras import column_name
from flowiq_source.rows.privacy import (
    Action,
    Hasher,
    Policy,
    drop,
    each,
    pseudonymous_id,
    pseudonymous_sender,
)
from flowiq_source.settings import Settings, place_of, stands_in

_SETTING = "sources.flowiq"

PSEUDONYMISED = {
    "contacts.whatsapp_id": "hash",
    "contacts.phone_number": "hash",
    "contacts.full_name": "hash",
    "contacts.email": "hash",
    "contacts.last_message": "drop",
    "contacts.profile_picture_url": "drop",
    "contact_identities.value": "hash",
    "messages.whatsapp_id": "hash",
    "messages.media_url": "drop",
    "messages__reactions.sender": "hash",
    "conversations.whatsapp_id": "hash",
    "rejected_rows.raw": "hash",
}
"""What `pseudonymise` does to columns; `columns` may say otherwise."""

_DOCUMENTED = {
    "contacts": {*CONTACT, "tenant_id", "synced_at"},
    "messages": {*MESSAGE, *OUR_COLUMNS},
    "messages__reactions": set(REACTION),
}
"""The columns beside which undocumented fields get theirs."""

_NEEDED = {
    "messages.scan",
    "messages.timestamp",
    *(f"conversations.{name}" for name in ("scan", "status", "message_count", "surplus")),
}
"""Columns that syncs, the view and `verify` go by."""

_HASHABLE_KEYS = {"contact_identities.value", "rejected_rows.raw"}


def _all_columns() -> dict[str, Any]:
    """What dlt is told of every column, by `table.column`."""
    declared = {
        "contacts": tables.CONTACTS["columns"],
        "contact_identities": tables.CONTACT_IDENTITIES["columns"],
        "messages": tables.MESSAGES["columns"],
        "conversations": tables.CONVERSATIONS["columns"],
        "rejected_rows": tables.REJECTED_ROWS["columns"],
    }
    columns: dict[str, Any] = {
        f"{table}.{name}": hints
        for table, all_hints in declared.items()
        for name, hints in all_hints.items()
        if not name.startswith("_dlt")
    }
    text = {"data_type": "text", "nullable": True}
    children = [f"messages__reactions.{name}" for name in (*REACTION, UNDOCUMENTED)]
    return columns | dict.fromkeys([*children, "contacts__tags.value"], text)


def policy_of(settings: Settings) -> Policy:
    """What is kept of each row.

    Raises:
        ConfigurationError: a column or an action is none, or a hash has no key.
    """
    wanted: dict[str, str] = dict(settings.columns or {})
    _check_columns(wanted)
    if settings.pseudonymise:
        wanted = PSEUDONYMISED | wanted
    hasher = Hasher(settings.hash_key) if settings.hash_key else None
    if hasher is None and (settings.pseudonymise or "hash" in wanted.values()):
        raise ConfigurationError(
            f"{_SETTING}.hash_key is not set, and hashes need a secret: put what "
            "`openssl rand -hex 32` prints into .dlt/secrets.toml, and keep it"
        )
    return Policy(
        _actions(wanted, hasher, pseudonymise=settings.pseudonymise),
        _kept_columns(settings),
        hasher,
        hashes=settings.pseudonymise or "hash" in wanted.values(),
        pseudonymise=settings.pseudonymise,
    )


def _check_columns(wanted: Mapping[str, Any]) -> None:
    known = _all_columns()
    for name, action in wanted.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else "a column is named as table.column"
            raise _refused(f"{name} is no column that this source declares: {hint}")
        if action not in ("keep", "hash", "drop"):
            raise _refused(f'{name} is to be "keep", "hash" or "drop"')
        is_key = not known[name]["nullable"] or name in _NEEDED
        if is_key and action != "keep" and name not in _HASHABLE_KEYS:
            raise _refused(
                f"{name} has to stay: rows are told apart or reconciled by it; "
                "pseudonymise hashes ids that are numbers"
            )
        if action == "drop" and name == "contact_identities.value":
            raise _refused(f'{name} is a key: "hash" it, or do not load the table')
        if action == "hash" and known[name]["data_type"] != "text":
            raise _refused(f'{name} holds no text, which alone can be hashed: "drop" it')


def _refused(why: str) -> ConfigurationError:
    place = place_of("columns")
    return ConfigurationError(f"{_SETTING}.columns: {why}{stands_in(place and place.name)}")


def _actions(
    wanted: Mapping[str, str], hasher: Hasher | None, *, pseudonymise: bool
) -> dict[str, dict[str, Action]]:
    actions: dict[str, dict[str, Action]] = {}
    for name, what in wanted.items():
        table, _, column = name.partition(".")
        if what == "keep":
            continue
        action: Action = drop if what == "drop" or hasher is None else hasher
        if table == "contacts__tags":
            table, column, action = "contacts", "tags", action if action is drop else each(action)
        if name == "rejected_rows.raw" and action is drop:
            action = _emptied
        for one in _also_named(table, column):
            actions.setdefault(table, {})[one] = action
    if pseudonymise and hasher is not None:
        actions["messages"] |= {
            "id": pseudonymous_id(hasher),
            "sender": actions["messages"].get("sender", pseudonymous_sender(hasher)),
        }
    return actions


def _emptied(_: Any) -> str:
    """Nothing of a value that is part of a key."""
    return ""


def _also_named(table: str, column: str) -> Iterator[str]:
    """The column, and those that its other names get where both stand in one row."""
    yield column
    documented = TABLES.get(table.rpartition("__")[2], {}).get(column)
    if documented:
        yield f"api_{column}"
        for alias in documented.aliases:
            yield column_name(alias)
            yield f"api_{column_name(alias)}"


def _kept_columns(settings: Settings) -> dict[str, set[str]] | None:
    """The only columns that are kept; None where undocumented ones are."""
    if settings.keep_undocumented is None and not settings.pseudonymise:
        return None
    kept = {column_name(name) for name in settings.keep_undocumented or ()} - {""}
    kept |= {f"api_{name}" for name in kept}
    return {table: columns | kept for table, columns in _DOCUMENTED.items()}


def kept_undocumented(settings: Settings) -> dict[str, list[str]]:
    """The undocumented columns that have their place whatever else comes."""
    kept = [column_name(name) for name in settings.keep_undocumented or ()]
    return {table: [name for name in kept if name] for table in TABLES}


def check_key(policy: Policy, state: TenantState) -> None:
    """Refuse to load by another policy than the state says the dataset was loaded by.

    Raises:
        ConfigurationError: another key, or pseudonyms beside what they stand for.
    """
    if state.pseudonymised and not policy.pseudonymise:
        raise ConfigurationError(
            f"{_SETTING}.pseudonymise is not set, and the dataset was loaded with it: rows would "
            "stand there twice, with their numbers; load into another dataset"
        )
    if policy.hashes and policy.hasher and state.hash_key not in ("", policy.hasher.key_id):
        raise ConfigurationError(
            f"{_SETTING}.hash_key is not the one that the dataset was loaded with: joins would no "
            "longer hold; set that one, or load into another dataset"
        )


def with_the_forgotten(
    policy: Policy, state: TenantState, committed: Committed, names: TableNames
) -> Policy:
    """The policy that leaves out whom the destination's tombstones name.

    Raises:
        ConfigurationError: they were made with another key, or the dataset holds numbers that
            were loaded without `pseudonymise`.
    """
    tombstones = committed.tombstones()
    key_id = policy.hasher.key_id if policy.hasher else None
    if any(made_with != key_id for _, made_with in tombstones):
        how = "is not the one" if policy.hasher else "is not set, and there is one"
        raise ConfigurationError(
            f"{_SETTING}.hash_key {how} by which the dataset knows who was forgotten: set that "
            "one, or those people would come back"
        )
    if policy.pseudonymise and not state.pseudonymised:
        with_numbers = (names.contacts, names.conversations, names.messages)
        if any(map(committed.has_numbers, with_numbers)):
            raise ConfigurationError(
                f"{_SETTING}.pseudonymise is set, and the dataset holds rows that were loaded "
                "without it: they would stay as they are; load into another dataset, or drop it"
            )
    return policy.without([value for value, _ in tombstones])
