"""Load packages that a killed process left half loaded, put back to their beginning.

dlt goes on with such a package job by job. A job whose rows the destination has committed, but
whose file the process could not move any more, is run twice: merged tables survive that, their
child tables and appended tables get their rows twice. Loading the whole package again is safe: dlt
empties the staging tables first, a merge of the same rows changes nothing, and what was appended
is deleted here by its load id.
"""

from pathlib import Path

import dlt
from dlt.common.storages import PackageStorage
from dlt.common.storages.load_package import LoadPackageInfo, TPackageJobState
from dlt.destinations.exceptions import DatabaseUndefinedRelation

_UNFINISHED: tuple[TPackageJobState, ...] = ("new_jobs", "started_jobs", "completed_jobs")


def rewind_interrupted_loads(pipeline: dlt.Pipeline) -> None:
    """Have every half loaded package loaded from its beginning."""
    for load_id in pipeline.list_normalized_load_packages():
        package = pipeline.get_load_package_info(load_id)
        if (Path(package.package_path) / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME).exists():
            _delete_appended(pipeline, package)
            _rewind(package)


def _delete_appended(pipeline: dlt.Pipeline, package: LoadPackageInfo) -> None:
    tables = {job.job_file_info.table_name for state in _UNFINISHED for job in package.jobs[state]}
    schema = pipeline.schemas[package.schema_name]
    with pipeline.sql_client() as client:
        for table in tables:
            if schema.tables[table].get("write_disposition") == "append":
                name = client.make_qualified_table_name(table)
                column = client.escape_column_name("_dlt_load_id")
                try:
                    delete = f"DELETE FROM {name} WHERE {column} = %s"  # noqa: S608
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
    # Last, because it is what tells that a package was begun.
    applied = folder / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME
    applied.rename(folder / PackageStorage.SCHEMA_UPDATES_FILE_NAME)
