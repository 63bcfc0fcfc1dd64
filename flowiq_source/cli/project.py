"""The project that a command works in: where its settings are, and its pipeline."""

import os
import stat
from pathlib import Path

import dlt
from dlt.common.pipeline import get_dlt_pipelines_dir
from dlt.common.runtime.collector_base import Collector

from flowiq_source.errors import ConfigurationError
from flowiq_source.loading.lock import sole
from flowiq_source.loading.undocumented import delete_at_once
from flowiq_source.tenants import tenant_suffix


def enter(folder: Path | None) -> None:
    """Work in the project: `folder`, or the nearest folder from here upwards that has a `.dlt`.

    Whatever is made from now on is for this user alone.

    Raises:
        ConfigurationError: there is no such folder.
    """
    os.umask(0o077)
    here = Path.cwd()
    if folder is None and "DLT_PROJECT_DIR" not in os.environ:
        folder = next((at for at in (here, *here.parents) if (at / ".dlt").is_dir()), here)
    try:
        os.chdir(folder or here)
    except OSError:
        raise ConfigurationError(f"--project {folder}: there is no such folder") from None


def open_pipeline(progress: Collector | None = None) -> dlt.Pipeline:
    """The pipeline of the configured tenant, with the destination and dataset of dlt's config.

    Each tenant has a pipeline and a staging dataset of its own, so that two may load into one
    dataset at the same time.
    """
    suffix = tenant_suffix(dlt.config.get("sources.flowiq.tenant_id", str) or "")
    layout = "destination.staging_dataset_name_layout"
    dlt.config[layout] = dlt.config.get(layout) or f"%s_staging{suffix}"
    # Not flowiq.duckdb: DuckDB wants file and dataset to have different names.
    file = "destination.duckdb.credentials"
    dlt.secrets[file] = dlt.secrets.get(file) or "flowiq_pipeline.duckdb"
    name = f"flowiq_pipeline{suffix}"
    try:
        return _pipeline(name, progress)
    except Exception:  # noqa: BLE001 - dlt has many ways not to be able to read a file
        # A machine that lost its power leaves empty files; a sync begins without them anyway.
        folder = Path(get_dlt_pipelines_dir())
        with sole(folder, name):
            delete_at_once(folder / name)
        return _pipeline(name, progress)


def _pipeline(name: str, progress: Collector | None) -> dlt.Pipeline:
    return dlt.pipeline(
        pipeline_name=name,
        destination=dlt.config.get("destination_type", str) or "duckdb",
        dataset_name=dlt.config.get("dataset_name", str) or "flowiq",
        progress=progress,  # type: ignore[arg-type] # dlt means that there may be none
    )


def open_secrets() -> str | None:
    """What to say of a `secrets.toml` that others may read; None if there is none."""
    file = Path(dlt.current.run_context().settings_dir) / "secrets.toml"
    if os.name != "nt" and file.is_file() and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return f"{file} can be read by other users of this machine: chmod 600 {file}"
    return None
