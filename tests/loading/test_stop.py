"""A sync can be stopped anywhere, in any thread, within two seconds."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from flowiq_source import sync
from flowiq_source.sandbox import Contact, Reply, Sandbox
from tests.support.history import crowd_of, expected, loaded
from tests.support.warehouse import Warehouse

REFUSED = Reply(429, b"{}", {"Retry-After": "60"})


class Stopped(BaseException):
    """What an orchestrator has raised in the thread of a task that took too long."""


@pytest.fixture
def some(sandbox: Sandbox) -> list[Contact]:
    """Three contacts with three messages each."""
    return crowd_of(sandbox, 3)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Api:
    """Answers requests of one action in a way that keeps a run waiting, until `let_go`."""

    def __init__(self, sandbox: Sandbox, action: str, how: str) -> None:
        self.asked, self._gone_on = threading.Event(), threading.Event()
        self._sandbox, self._action, self._how = sandbox, action, how
        sandbox.intercept = self._intercept

    def _intercept(self, params: dict[str, str]) -> Reply | None:
        if params["action"] == self._action:
            self.asked.set()
            if self._how == "is silent":
                self._gone_on.wait(60)
            return REFUSED if self._how == "refuses" else None
        return None

    def let_go(self) -> None:
        """Answer as ever."""
        self._sandbox.intercept = None
        self._gone_on.set()


@pytest.mark.parametrize(
    ("action", "how", "kind"),
    [
        ("contacts", "refuses", Stopped),
        ("contacts", "is silent", TimeoutError),
        ("contacts", "has a limit", Stopped),
        ("conversation-messages", "refuses", TimeoutError),
        ("conversation-messages", "is silent", Stopped),
    ],
)
def test_a_sync_in_a_thread_ends_when_something_is_raised_there(
    warehouse: Warehouse,
    sandbox: Sandbox,
    some: list[Contact],
    action: str,
    how: str,
    kind: type[BaseException],
) -> None:
    """While it waits for the API or for its own limit; the next sync loads everything."""
    api, raised = Api(sandbox, action, how), list[BaseException]()
    # The second request of an account that is allowed one a minute waits for that.
    source = warehouse.source(sandbox, requests_per_minute=1.0 if how == "has a limit" else 1e6)

    def run() -> None:
        try:
            sync(warehouse.pipeline, source)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert api.asked.wait(60)
    assert thread.ident
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(kind))
    thread.join(timeout=20)
    assert not thread.is_alive()
    api.let_go()
    [error] = raised
    assert any(isinstance(cause, kind) for cause in causes(error))
    # The limit that the first one found is not waited for.
    assert warehouse.sync_with(sandbox).complete
    assert loaded(warehouse) == expected(sandbox)


PROGRAM = """
import sys, dlt
from flowiq_source import flowiq_source, sync
url, file, folder = sys.argv[1:]
pipeline = dlt.pipeline(
    "warehouse", pipelines_dir=folder, destination=dlt.destinations.duckdb(file),
    dataset_name="flowiq",
)
source = flowiq_source(bearer_token="fiq_sandbox", tenant_id="sandbox", base_url=url)
try:
    sync(pipeline, source)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""


@pytest.mark.parametrize(
    ("action", "how"), [("contacts", "refuses"), ("conversation-messages", "is silent")]
)
def test_ctrl_c_is_a_keyboard_interrupt(
    warehouse: Warehouse, sandbox: Sandbox, some: list[Contact], action: str, how: str
) -> None:
    """Of a program without any handler, whatever step of dlt's it comes in."""
    api = Api(sandbox, action, how)
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", PROGRAM, sandbox.url),
            *(str(warehouse.file), str(warehouse.folder / "pipelines")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        # A shell has what it starts in the background ignore Ctrl-C, and all that comes of it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - takes no lock
    )
    with process:
        assert api.asked.wait(60)
        process.send_signal(signal.SIGINT)
        said, complaints = "", ""
        with suppress(subprocess.TimeoutExpired):
            said, complaints = process.communicate(timeout=20)
        process.kill()
    assert said == "KeyboardInterrupt\n", complaints
    api.let_go()
    assert warehouse.sync(sandbox).complete
    assert loaded(warehouse) == expected(sandbox)
