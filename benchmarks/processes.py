"""The server and the peers as child processes: started, measured, and always ended."""

import contextlib
import io
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import urllib3

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Peer:
    """A program in `peers`, and the schema that its tables are in."""

    program: str
    schema: str
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable


_NO_MODELS = {"SOURCES__FLOWIQ__MODELS__CREATE": "false"}

PEERS = {
    "ours": Peer("ours.py", "flowiq"),
    "requests": Peer("ours.py", "flowiq", environment=_NO_MODELS),
    "ours_limited": Peer("ours.py", "flowiq", ("100",)),
    "script": Peer("script.py", "main"),
    "floor": Peer("floor.py", "main"),
    "rest_api": Peer("rest_api.py", "rest_api"),
    "rest_api_cursor": Peer("rest_api.py", "rest_api", ("--cursor",)),
}

LIBCURL = "fa84880"
"""The last commit that sent its requests by libcurl, from one thread. It made no models."""

START_TIMEOUT_S = 300.0
RUN_TIMEOUT_S = 3_600.0


@dataclass(frozen=True)
class Account:
    """What the server serves, and how."""

    contacts: int
    messages: int
    latency_ms: float = 0.0
    per_minute: int = 0

    @property
    def total(self) -> int:
        """Messages in all conversations."""
        return self.contacts * self.messages

    def arguments(self) -> list[str]:
        """The server's command line."""
        words = [f"--contacts={self.contacts}", f"--messages={self.messages}"]
        words += [f"--latency-ms={self.latency_ms}"] if self.latency_ms else []
        return words + ([f"--per-minute={self.per_minute}"] if self.per_minute else [])


@dataclass(frozen=True)
class Run:
    """One whole process of a peer, imports included. `messages` are the rows in its file.

    `sync_seconds` is what the peer says of itself; `served_seconds` lie between the first and the
    last request that the server saw.
    """

    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    requests: int
    too_many: int
    served_seconds: float
    messages: int
    sync_seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The numbers under their names."""
        return asdict(self)


@contextlib.contextmanager
def server(account: Account) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, str(HERE / "server.py"), *account.arguments()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _first_line(process)
        finally:
            process.kill()


def _first_line(process: "subprocess.Popen[str]") -> str:
    """The URL that the server prints when everything is rendered."""
    output = process.stdout
    ready = output is not None and select.select([output], [], [], START_TIMEOUT_S)[0]
    url = output.readline().strip() if output and ready else ""
    if not url:
        raise RuntimeError("the server did not start")
    return url


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for one database file and what belongs to it, deleted afterwards."""
    path = Path(tempfile.mkdtemp(prefix="flowiq-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def with_libcurl() -> Iterator[None]:
    """Have the peer `libcurl`: this source as it was then, with the libraries of now.

    Raises:
        RuntimeError: this is no clone with the whole history.
    """
    git = ["git", "-C", str(HERE.parent), "archive", LIBCURL]
    archive = subprocess.run(git, capture_output=True, check=False)
    if archive.returncode:
        raise RuntimeError(f"no commit {LIBCURL} here: clone the project with its whole history")
    with folder() as tree:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(tree, filter="data")
        python = str(tree / ".venv" / "bin" / "python")
        same = [f"{name}=={version(name)}" for name in ("dlt", "duckdb", "pyarrow", "msgspec")]
        for step in (
            [sys.executable, "-m", "venv", str(tree / ".venv")],
            [python, "-m", "pip", "install", "--quiet", "--editable", str(tree), *same],
        ):
            subprocess.run(step, check=True)
        program = str(tree / "benchmarks" / "peers" / "ours.py")
        PEERS["libcurl"] = Peer(program, "flowiq", python=python)
        yield


def run_once(name: str, url: str) -> Run:
    """One run of the peer into a fresh file."""
    with folder() as path:
        return run_peer(name, url, path)


def run_peer(name: str, url: str, path: Path) -> Run:
    """One run of the peer into the file in this folder, there or not.

    Raises:
        RuntimeError: it failed or took too long.
    """
    peer, file = PEERS[name], path / "warehouse.duckdb"
    _stats(url, reset=True)
    program = str(HERE / "peers" / peer.program)
    command = [peer.python, program, url, str(file), *peer.arguments]
    seconds, usage, said = _measured(command, path, peer.environment)
    stats = _stats(url)
    found = re.search(r"^seconds +([0-9.]+)$", said, re.MULTILINE)
    return Run(
        seconds=round(seconds, 3),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
        peak_rss_mb=round(usage.ru_maxrss / 1024, 1),
        requests=stats["requests"],
        too_many=stats["too_many"],
        served_seconds=round(stats["seconds"], 3),
        messages=rows_of(file, f"{peer.schema}.messages"),
        sync_seconds=float(found[1]) if found else None,
    )


def run_program(name: str, arguments: list[str], path: Path) -> str:
    """What a program beside this one prints, which works in this folder."""
    _, _, said = _measured([sys.executable, str(HERE / name), *arguments], path, {})
    return said


def _measured(
    command: list[str], path: Path, environment: Mapping[str, str]
) -> tuple[float, resource.struct_rusage, str]:
    """Wall seconds, the kernel's account of the process, and what it printed."""
    with (path / "output").open("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=path,
            # As `make run` does; see the README on memory.
            env={
                **os.environ,
                "MALLOC_ARENA_MAX": "2",
                "ARROW_DEFAULT_MEMORY_POOL": "system",
                **environment,
            },
            start_new_session=True,
        )
        status, usage = _waited(process)
        seconds = time.perf_counter() - began
        output.seek(0)
        said = output.read()
    if status:
        raise RuntimeError(f"{Path(command[1]).name} ended with {status}:\n{said[-3000:]}")
    return seconds, usage, said


def _waited(process: "subprocess.Popen[bytes]") -> tuple[int, resource.struct_rusage]:
    """Exit status and the kernel's account, when the process has ended, by itself or not."""
    # wait4 has no timeout, and looking again and again would blur the wall clock.
    timer = threading.Timer(RUN_TIMEOUT_S, _kill, [process])
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        if process.returncode is None:
            _kill(process)
            process.wait()
    return process.returncode, usage


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _stats(url: str, *, reset: bool = False) -> dict[str, Any]:
    answer = urllib3.request("GET", f"{url}/stats" + ("?reset=1" if reset else ""), timeout=30)
    stats: dict[str, Any] = answer.json()
    return stats


def rows_of(file: Path, table: str) -> int:
    """How many rows a table in a DuckDB file has."""
    with duckdb.connect(str(file), read_only=True) as connection:
        [[rows]] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(rows)
