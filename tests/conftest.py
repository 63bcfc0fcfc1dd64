"""A sandbox, a pipeline into a DuckDB file of its own, and questions to that file."""

import gc
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs import PluggableRunContext
from hypothesis import HealthCheck, settings

from flowiq_source.sandbox import Sandbox, World
from flowiq_source.sandbox.world import Contact
from tests.support.script import environment, run  # noqa: F401 - fixtures
from tests.support.warehouse import Warehouse

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
# How long an example takes says how busy the machine is.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_unconfigure() -> None:
    """Let go of what Hypothesis leaves with the garbage collector.

    Its callback would hold every module until DuckDB, at the very end, prints what has leaked.
    """
    gc.callbacks.clear()


@pytest.fixture(autouse=True)
def clean_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """No setting, state or file of the developer's reaches a test.

    A sync makes the models where a test is about them alone: it takes a third of a second.
    """
    ours = (
        "SOURCES__",
        "DESTINATION",
        "DATASET_NAME",
        "DLT_",
        "EXTRACT__",
        "NORMALIZE__",
        "LOAD__",
    )
    for name in [name for name in os.environ if name.startswith(ours)]:
        monkeypatch.delenv(name)
    if request.node.get_closest_marker("models") is None:
        monkeypatch.setenv("SOURCES__FLOWIQ__MODELS__CREATE", "false")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """An API in the reference dialect over an empty world."""
    with Sandbox(World(contacts=0), limited=False) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project's `.dlt`, which dlt has read."""
    (tmp_path / ".dlt").mkdir()
    secrets = tmp_path / ".dlt" / "secrets.toml"
    secrets.write_text('[sources.flowiq]\nbearer_token = "fiq_x"\n')
    Container()[PluggableRunContext].reload_providers()
    yield tmp_path / ".dlt"
    for file in (tmp_path / ".dlt").iterdir():
        file.unlink()
    Container()[PluggableRunContext].reload_providers()


@pytest.fixture
def alice(sandbox: Sandbox) -> Contact:
    """A contact without messages."""
    return sandbox.world.add_contact("27820000001", full_name="Alice")


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """An empty warehouse."""
    return Warehouse(tmp_path)


@pytest.fixture
def all_logs() -> Iterator[Callable[[], str]]:
    """Everything that any logger said at any level."""
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(logging.Formatter().format(record))

    handler = Collect(level=logging.DEBUG)
    loggers = [logging.getLogger(name) for name in (None, "dlt", "flowiq_source")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield lambda: "\n".join(said)
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)
