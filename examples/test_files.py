"""What is no program of an orchestrator: its command lines are run as they stand."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.conftest import Accounts
from tests.support.history import loaded
from tests.support.warehouse import Warehouse

HERE = Path(__file__).parent
ROOT = HERE.parent


def shell(command: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line as cron or a runner does, with the command installed."""
    there = str(Path(sys.executable).parent)
    env = os.environ | {"PATH": f"{there}:{os.environ['PATH']}", "HOME": str(folder)} | more
    return subprocess.run(
        ["/bin/sh", "-ec", command],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_lines_for_cron_load_their_tenants(accounts: Accounts) -> None:
    """Twice; nothing is printed, so nothing is mailed, until a token is wrong."""
    lines = (HERE / "cron/flowiq.cron").read_text().splitlines()
    commands = [line.split(maxsplit=5)[5] for line in lines if line[0].isdigit()]
    folder = accounts.folder / "etl"
    (folder / ".dlt").mkdir(parents=True)
    for tenant in ("acme", "north"):
        (folder / f"{tenant}.token").write_text(f"fiq_{tenant}\n")
    for _ in range(2):
        for command in commands:
            done = shell(command, accounts.folder)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        both = accounts.at_the_api("acme") + accounts.at_the_api("north")
        assert loaded(Warehouse(folder, "flowiq_pipeline")) == both
        accounts.a_day_passes()
    (folder / "acme.token").write_text("fiq_wrong")
    broken, good = (shell(command, accounts.folder) for command in commands)
    assert broken.returncode == 2
    assert "401" in broken.stderr
    assert good.returncode == 0


def test_the_workflow_loads_its_tenants(accounts: Accounts) -> None:
    """Its last step, with what its matrix and its secrets come to."""
    [job] = workflow()["jobs"].values()
    *_, step = job["steps"]
    assert job["strategy"]["fail-fast"] is False
    assert "matrix.tenant" in job["concurrency"]["group"]
    for tenant in job["strategy"]["matrix"]["include"]:
        filled = {
            "${{ matrix.tenant }}": tenant["tenant"],
            "${{ secrets[matrix.secret] }}": accounts.environment[tenant["secret"]],
        }
        env = {name: filled.get(value, value) for name, value in step["env"].items()}
        # No server here: a file instead.
        file = str(accounts.folder / f"flowiq_{tenant['tenant']}.duckdb")
        env |= {"DESTINATION_TYPE": "duckdb", "DESTINATION__DUCKDB__CREDENTIALS": file}
        done = shell(step["run"], accounts.folder, **env)
        assert done.returncode == 0, done.stderr
        assert accounts.loaded(tenant["tenant"]) == accounts.at_the_api(tenant["tenant"])


def workflow() -> Any:
    """The file; YAML 1.1 reads its key `on` as true."""
    return yaml.safe_load((HERE / "github/flowiq.yml").read_text())


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """As `systemd-analyze verify` sees them."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze here")
    for unit in ("flowiq@.service", "flowiq@.timer"):
        text = (HERE / "systemd" / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/usr/local/bin/flowiq", "/bin/true"))
    units = [str(tmp_path / unit) for unit in ("flowiq@acme.service", "flowiq@acme.timer")]
    done = subprocess.run(
        [analyze, "verify", *units],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_of_the_service_loads_its_tenant(accounts: Accounts) -> None:
    """With what its unit sets."""
    unit = (HERE / "systemd/flowiq@.service").read_text()
    unit = unit.replace("%S/flowiq", str(accounts.folder)).replace("%i", "north")
    values = dict(
        word.split("=", 1)
        for line in re.findall("^Environment=(.*)", unit, re.MULTILINE)
        for word in line.split()
    )
    [command] = re.findall("^ExecStart=/usr/local/bin/(.*)", unit, re.MULTILINE)
    token = accounts.environment["FLOWIQ_TOKEN_NORTH"]
    done = shell(command, accounts.folder, **values, SOURCES__FLOWIQ__BEARER_TOKEN=token)
    assert done.returncode == 0, done.stderr
    query = "SELECT count(*) FROM flowiq.messages"
    [[count]] = Warehouse(accounts.folder, "north").query(query)
    assert count == accounts.at_the_api("north").total()


def test_the_container_finds_what_it_copies() -> None:
    """It is not built here, where there is no engine: its paths and its constraints are checked."""
    text = (HERE / "container/Containerfile").read_text()
    for sources in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    [command] = re.findall(r"sed .* /src/requirements\.lock", text)
    done = shell(command.replace("/src", str(ROOT)), ROOT)
    pins = [line for line in done.stdout.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(pins) > 20
    assert all(re.fullmatch(r"\S+==\S+( ; .*)?", pin) for pin in pins), pins
