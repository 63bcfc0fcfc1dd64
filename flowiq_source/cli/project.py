"""The project that a command works in: where its settings are, and its pipeline."""

import os
import stat
from pathlib import Path

import dlt
from dlt.common.runtime.collector_base import Collector

from flowiq_source.errors import ConfigurationError
from flowiq_source.tenants import tenant_pipeline


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
    """The pipeline of the configured tenant."""
    return tenant_pipeline(dlt.config.get("sources.flowiq.tenant_id", str) or "", progress=progress)


def open_secrets() -> str | None:
    """What to say of a `secrets.toml` that others may read; None if there is none."""
    file = Path(dlt.current.run_context().settings_dir) / "secrets.toml"
    if os.name != "nt" and file.is_file() and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return f"{file} can be read by other users of this machine: chmod 600 {file}"
    return None
