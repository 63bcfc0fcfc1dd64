"""What a killed process left in the pipeline's working folder, put in order.

dlt goes on with a half loaded package job by job. A job whose rows the destination has committed,
but whose file the process could not move any more, is run twice: merged tables survive that, their
child tables and appended tables get their rows twice. Loading the whole package again is safe: dlt
empties the staging tables first, a merge of the same rows changes nothing, and what was appended
is deleted here by its load id.

Other things dlt does in more than one step and cannot go on with at all: it makes the folders of
its packages, moves a normalized package before it deletes the extracted one, marks a loaded package
before it moves it, and deletes a working folder file by file.
"""

import shutil
from pathlib import Path

import dlt
from dlt.common.storages import (
    FileStorage,
    LoadStorage,
    LoadStorageConfiguration,
    NormalizeStorage,
    NormalizeStorageConfiguration,
    PackageStorage,
)
from dlt.common.storages.load_package import LoadPackageInfo, TPackageJobState
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase

_UNFINISHED: tuple[TPackageJobState, ...] = ("new_jobs", "started_jobs", "completed_jobs")


def repair_working_folder(pipeline: dlt.Pipeline) -> None:
    """Have every package normalized once, and every half loaded one loaded from its beginning."""
    extracted, load = _storages(Path(pipeline.working_dir))
    for load_id in load.list_normalized_packages():
        extracted.delete_package(load_id, not_exists_ok=True)
        package = load.get_load_package_info(load_id)
        # A load begins with deleting this file, before it writes the one with what was applied.
        if not (Path(package.package_path) / PackageStorage.SCHEMA_UPDATES_FILE_NAME).exists():
            _delete_appended(pipeline, package)
            _rewind(package)


def drop_working_folder(pipeline: dlt.Pipeline) -> None:
    """Forget the local state and all packages, at once or not at all."""
    folder = Path(pipeline.working_dir)
    dropped = folder.with_name(f"{folder.name}.dropped")
    if dropped.exists():
        shutil.rmtree(dropped)
    folder.rename(dropped)
    pipeline.drop()
    shutil.rmtree(dropped)


def _storages(folder: Path) -> tuple[PackageStorage, LoadStorage]:
    """The extracted and all other packages, in folders that are made where they are missing."""
    extracted = NormalizeStorage(
        is_owner=True,
        config=NormalizeStorageConfiguration(normalize_volume_path=str(folder / "normalize")),
    )
    load = LoadStorage(
        is_owner=True,
        supported_file_formats=[],
        config=LoadStorageConfiguration(load_volume_path=str(folder / "load")),
    )
    return extracted.extracted_packages, load


def _delete_appended(pipeline: dlt.Pipeline, package: LoadPackageInfo) -> None:
    destination = pipeline.destination_client(package.schema_name)
    if not isinstance(destination, SqlJobClientBase):
        return  # Files: the same job writes the same file again.
    schema = destination.schema
    tables = {job.job_file_info.table_name for state in _UNFINISHED for job in package.jobs[state]}
    appended = {
        table: "_dlt_load_id"
        for table in tables
        if schema.tables[table].get("write_disposition") == "append"
    }
    with destination.sql_client as client:
        for table, column in (appended | {schema.loads_table_name: "load_id"}).items():
            name = client.make_qualified_table_name(table)
            load_id = client.escape_column_name(column)
            try:
                delete = f"DELETE FROM {name} WHERE {load_id} = %s"  # noqa: S608
                client.execute_sql(delete, package.load_id)
            except DatabaseUndefinedRelation:
                continue


def _rewind(package: LoadPackageInfo) -> None:
    folder = Path(package.package_path)
    for state in _UNFINISHED:
        for job in package.jobs[state]:
            file = folder / state / job.job_file_info.file_name()
            if job.job_file_info.file_format == "sql":
                # The merge; dlt makes it again when the tables that it needs are loaded.
                file.unlink()
            elif state != PackageStorage.NEW_JOBS_FOLDER:
                file.rename(folder / PackageStorage.NEW_JOBS_FOLDER / file.name)
    for note in (folder / PackageStorage.PENDING_TRANSITIONS_FOLDER).glob("*"):
        note.unlink()
    (folder / PackageStorage.PACKAGE_COMPLETED_FILE_NAME).unlink(missing_ok=True)
    applied = folder / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME
    if not applied.exists():
        FileStorage.save_atomic(str(folder), applied.name, "{}")
    # Last, because it is what tells that a package was begun.
    applied.rename(folder / PackageStorage.SCHEMA_UPDATES_FILE_NAME)
