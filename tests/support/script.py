"""The command `flowiq` as a person runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowiq_source.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
FLOWIQ = [sys.executable, "-m", "flowiq_source.cli"]

Run = Callable[..., subprocess.CompletedProcess[str]]


def settings_of(api: Sandbox, data_dir: Path) -> dict[str, str]:
    """The variables of who loads the sandbox's tenant, without waiting for a limit."""
    return {
        "SOURCES__FLOWIQ__BASE_URL": api.url,
        "SOURCES__FLOWIQ__BEARER_TOKEN": api.token,
        "SOURCES__FLOWIQ__TENANT_ID": api.tenant,
        "SOURCES__FLOWIQ__REQUESTS_PER_MINUTE": "1000000",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": str(data_dir),
    }


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    """What makes a script load the sandbox."""
    return os.environ | settings_of(sandbox, tmp_path / "dlt")


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run a command in an empty folder, configured for the sandbox; `sync` if none is named."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        words = arguments if arguments and arguments[0].isalpha() else ("sync", *arguments)
        return subprocess.run(
            [*FLOWIQ, *words],
            env={name: value for name, value in (environment | settings).items() if value},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    return run
