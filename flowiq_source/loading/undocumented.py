"""What is used of dlt beyond its documentation, each with the reason.

Read in dlt 1.30 and 1.31; the tests run against both.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import dlt
from dlt.common.configuration.utils import get_resolved_traces
from dlt.common.schema import Schema
from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.extract import DltResource
from dlt.extract.items_transform import FilterItem, MapItem, YieldMapItem

LOCK_TIMEOUT_S = 1
"""How long, in PostgreSQL, a change of a table or view waits for those who read it."""


def load_id_of_extract() -> str | None:
    """The load package that is being extracted; None outside of a pipeline.

    `dlt.current.load_package_state` is documented for destinations; in a resource it works as well.
    """
    try:
        load_id: str = dlt.current.load_package_state()["load_id"]
    except CurrentLoadPackageStateNotAvailable:
        return None
    return load_id


def has_row_steps(resource: DltResource) -> bool:
    """Whether `add_map`, `add_filter` or `add_yield_map` was called on a resource.

    There is no public list of a resource's steps.
    """
    return bool(resource._pipe.find_all(FilterItem, MapItem, YieldMapItem))  # noqa: SLF001


_configs: "WeakKeyDictionary[dlt.Pipeline, dict[Any, Any]]" = WeakKeyDictionary()
"""What the destinations of pipelines that are in `resolved_once` are configured with."""


@contextmanager
def resolved_once(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Have `client_of` find out once for the block how the destination is configured.

    dlt looks for every setting in every place anew, which takes longer than most questions do.
    """
    _configs[pipeline] = {}
    try:
        yield
    finally:
        del _configs[pipeline]


def client_of(pipeline: dlt.Pipeline, schema: Schema) -> Any:
    """The client of the pipeline's destination, by a schema that the working folder need not have.

    `Pipeline.destination_client` loads a schema from the folder, which may be broken.
    """
    # Where each schema has a dataset, its name depends on which is the default.
    configs, key = _configs.get(pipeline, {}), (pipeline.dataset_name, pipeline.default_schema_name)
    if key not in configs:
        client = pipeline._get_destination_clients(schema)[0]  # noqa: SLF001
        configs[key] = client.config
        return client
    return pipeline.destination.client(schema, configs[key])


def forget_working_folder(pipeline: dlt.Pipeline) -> None:
    """Delete the pipeline's local state and packages, at once or not at all.

    `Pipeline.drop` deletes file by file, and dlt cannot open every half of a folder.
    """
    delete_at_once(Path(pipeline.working_dir))
    # In dev_mode dlt would give the dataset, which has its suffix, another one.
    dev_mode, pipeline.dev_mode = pipeline.dev_mode, False
    pipeline.drop()
    pipeline.dev_mode = dev_mode


def forget_failure(pipeline: dlt.Pipeline) -> None:
    """Forget what dlt keeps of a failed load, in the working folder and in its trace."""
    with suppress(Exception):
        forget_working_folder(pipeline)
    pipeline._last_trace = None  # type: ignore[assignment] # noqa: SLF001


def delete_at_once(folder: Path) -> None:
    """Delete a folder, so that another process sees all of it or nothing."""
    deleted = folder.with_name(f"{folder.name}.dropped")
    if deleted.exists():
        shutil.rmtree(deleted)
    with suppress(FileNotFoundError):
        folder.rename(deleted)
    shutil.rmtree(deleted, ignore_errors=True)


def bring_schema_up_to_date(pipeline: dlt.Pipeline, schema: Schema) -> list[str]:
    """The tables that the destination lacked, or that lacked columns; now it has them.

    `Pipeline.sync_schema` looks no further than the stored hash, which is there although a killed
    run made only some of the tables; `force` is not passed through.
    """
    with client_of(pipeline, schema) as client:
        client.initialize_storage()
        if dialect_of(client) == "postgres" and isinstance(client, SqlJobClientBase):
            # A new column waits for everyone who reads the table, and everyone else for that.
            client.sql_client.execute_sql(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
        return sorted(client.update_stored_schema(force=True) or ())


def loads_parquet(pipeline: dlt.Pipeline) -> bool:
    """Whether Arrow tables reach the pipeline's destination as Parquet.

    As dlt's normalizer decides it: a destination may take formats away that need a driver.
    """
    capabilities = pipeline.destination.capabilities()
    formats = capabilities.supported_loader_file_formats or ()
    if capabilities.loader_file_format_selector:
        _, formats = capabilities.loader_file_format_selector(
            capabilities.preferred_loader_file_format, list(formats), table_schema={}
        )
    return "parquet" in formats


def keep_schema(pipeline: dlt.Pipeline, schema: Schema) -> None:
    """Keep a schema in the pipeline's working folder, beside those that it loads."""
    pipeline._schema_storage.save_schema(schema)  # noqa: SLF001 - `pipeline.schemas` is read-only


def dialect_of(client: Any) -> str:
    """The name of the SQL that a destination's client speaks, as sqlglot has it.

    Of the client, because the destination by itself has not read its credentials.
    """
    return str(client.capabilities.sqlglot_dialect or "")


def column_names(cursor: Any) -> list[str]:
    """The columns of a result; that of sqlalchemy has no `description`."""
    return list(cursor._get_columns())  # noqa: SLF001


def forget_resolved_settings() -> None:
    """Forget the settings that dlt has resolved in this thread, secrets and objects among them.

    It keeps them for the trace of the next pipeline step, and that may not come.
    """
    get_resolved_traces().clear()


def import_plugins() -> None:
    """Have dlt import the module that is called like the working folder, if there is one.

    It does so when it looks for a destination. In a thread, that would wait for ever for a module
    that is being imported and waits for the thread.
    """
    _ = dlt.current.run_context().module
