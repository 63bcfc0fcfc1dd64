"""Where the names of many tenants come from: a TOML file, or a query of the warehouse."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

import dlt
import tomlkit
from dlt.common.configuration import configspec
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.schema import Schema
from tomlkit.exceptions import TOMLKitError

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.destination import sql_of
from flowiq_source.loading.refusals import without_row_texts
from flowiq_source.loading.storage_version import make_file
from flowiq_source.loading.turns import turn_at
from flowiq_source.loading.undocumented import client_of, column_names
from flowiq_source.many import AT_ONCE
from flowiq_source.settings import Settings, check_keys, shortened
from flowiq_source.tenants import Tenant

SECTION = ("sources", "flowiq", "tenants")
_HOW = (
    'name the tenants: sources.flowiq.tenants.file = "tenants.toml", '
    "or --tenants tenants.toml, or a query in sources.flowiq.tenants.query"
)


@configspec
class RollSettings(BaseConfiguration):
    """The settings under `sources.flowiq.tenants`: who the tenants are, and how many run at once.

    Raises:
        ConfigurationError: one of them is misspelt or cannot be right.
    """

    file: Optional[str] = None  # noqa: UP045 - dlt resolves the annotations of its specs
    query: Optional[str] = None  # noqa: UP045
    at_once: int = AT_ONCE

    def on_resolved(self) -> None:
        """Check what can be checked."""
        check_keys(SECTION, self.get_resolvable_fields())
        section = ".".join(SECTION)
        if self.file and self.query:
            raise ConfigurationError(f"{section}.file and {section}.query are both set: leave one")
        if self.at_once < 1:
            raise ConfigurationError(f"{section}.at_once must be 1 or more")


def roll_settings(**given: Any) -> RollSettings:
    """The settings as dlt's config has them, but for those that are given."""
    known = {name: value for name, value in given.items() if value is not None}
    return resolve_configuration(RollSettings(), sections=SECTION, explicit_value=known or None)


def tenants_of(settings: RollSettings, pipeline: Callable[[], dlt.Pipeline]) -> list[Tenant]:
    """The tenants that are configured; a pipeline is needed where they come from a query.

    Raises:
        ConfigurationError: none are, or what is said of them is wrong.
        DestinationError: the destination refuses the query, or is away.
    """
    if settings.file:
        return read_tenants(Path(settings.file))
    if settings.query:
        return query_tenants(pipeline(), settings.query)
    raise ConfigurationError(_HOW)


def read_tenants(file: Path) -> list[Tenant]:
    """The tenants of a TOML file, which has a table for each, by its id.

    Raises:
        ConfigurationError: there is no such file, or it is none of tenants.
    """
    try:
        tables = tomlkit.parse(file.read_text(encoding="utf-8")).unwrap()
    except TOMLKitError as wrong:
        where = f"in line {wrong.line}: " if hasattr(wrong, "line") else ""
        raise ConfigurationError(f"{shortened(file)} is no TOML, {where}correct it") from None
    except (OSError, ValueError) as error:
        why = type(error).__name__
        raise ConfigurationError(f"{shortened(file)} cannot be read ({why})") from None
    return _tenants(tables.items(), str(shortened(file)))


def query_tenants(pipeline: dlt.Pipeline, sql: str) -> list[Tenant]:
    """The tenants that a query of the pipeline's destination finds.

    Its columns are `id` and `secret`, and perhaps `dataset_name` and settings.

    Raises:
        ConfigurationError: the destination answers no SQL, or the answer has no such columns.
        DestinationError: the destination refuses the query, or is away.
    """
    names, rows = without_row_texts(pipeline, lambda: _answer(pipeline, sql))
    if not {"id", "secret"} <= set(names):
        found = ", ".join(names)
        raise ConfigurationError(f"the query of tenants finds no id and secret, but {found}")
    said = [dict(zip(names, row, strict=True)) for row in rows]
    return _tenants(((one.pop("id"), one) for one in said), "the query of tenants")


def _answer(pipeline: dlt.Pipeline, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    schema = Schema("flowiq")
    _have_dataset(pipeline, schema)
    with sql_of(pipeline, schema) as client:
        if client is None:
            raise ConfigurationError("this destination answers no SQL: name the tenants in a file")
        # To the driver, % begins a placeholder.
        with client.execute_query(sql.replace("%", "%%")) as cursor:
            names = [name.lower() for name in column_names(cursor)]
            return names, [tuple(row) for row in cursor.fetchall()]


def _have_dataset(pipeline: dlt.Pipeline, schema: Schema) -> None:
    """Make the dataset, where there is none: dlt looks for names in it."""
    with turn_at(pipeline, schema):
        make_file(pipeline, schema, _storage_version())
        with client_of(pipeline, schema) as client:
            if not client.is_storage_initialized():
                client.initialize_storage()


def _storage_version() -> str:
    name = "duckdb_storage_version"
    return dlt.config.get(f"sources.flowiq.{name}", str) or str(getattr(Settings, name))


def _tenants(said: Iterable[tuple[Any, Any]], where: str) -> list[Tenant]:
    tenants = [
        Tenant.of(tenant_id, one if isinstance(one, Mapping) else {}) for tenant_id, one in said
    ]
    if not tenants:
        raise ConfigurationError(f"{where} names no tenant")
    return tenants
