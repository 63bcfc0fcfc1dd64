"""`python -m flowiq_source.sandbox` listens at once, and says what to ask it."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from flowiq_source.sandbox.command import sandbox as main

COMMAND = [sys.executable, "-m", "flowiq_source.sandbox"]


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, str]]:
    """What it prints, and its URL."""
    command = [*COMMAND, "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        said = ""
        while "/sandbox/advance" not in said:
            line = process.stdout.readline()
            assert line, "it ended"
            said += line
        try:
            yield said, re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        finally:
            process.terminate()


def ask(url: str, tenant: str | None = "sandbox", key: str = "sandbox", **params: Any) -> Any:
    """The answer's JSON; `key` is what follows fiq_ in the token."""
    headers = {"Authorization": f"Bearer fiq_{key}"}
    params = {"tenantId": tenant, **params}
    return requests.get(f"{url}/conversations", params=params, headers=headers, timeout=60).json()


@pytest.mark.parametrize("contacts", [0, 1, 7, 12])
def test_as_many_contacts_are_there_as_were_asked_for(contacts: int) -> None:
    """The printed number is the API's, and the vendor's John Doe is one of them."""
    with serving("--contacts", str(contacts)) as (said, url):
        assert f"with {contacts} contact" in said
        body = ask(url, action="contacts", limit=1)
        assert body["pagination"]["totalContacts"] == contacts
        assert [row["full_name"] for row in body["contacts"]] == ["John Doe"][:contacts]


def test_it_listens_at_once_however_many_contacts() -> None:
    """The business is planned when somebody asks; who may not ask does not wait."""
    with serving("--contacts", "1000000000") as (_, url):
        assert ask(url, key="wrong")["error"] == "Invalid API key"


def test_it_serves_several_tenants() -> None:
    """Each with the token that was printed for it."""
    with serving("--tenant", "north", "--tenant", "south") as (said, url):
        for tenant in ("north", "south"):
            assert f"BEARER_TOKEN=fiq_{tenant}\n" in said
            assert f"TENANT_ID={tenant}\n" in said
        rows = [ask(url, name, name, action="contacts")["contacts"] for name in ("north", "south")]
        assert rows[0][1]["id"] != rows[1][1]["id"]
        assert ask(url, "north", "south", action="contacts")["error"] == "API key mismatch"


def test_its_options_are_those_of_the_world_and_the_limit() -> None:
    """Each reaches what it is for."""
    options = "--lively --web-chat --hidden-numbers --optional-fields --uuid-ids --tenant-optional"
    limit = "--limit aligned --per-minute 2 --burst 2 --dialect overview"
    with serving(*options.split(), *limit.split()) as (_, url):
        body = ask(url, None, whatsappNumber="27123456789")
        assert {"whatsapp_message_id", "member_id"} <= {*body["messages"][0]}
        assert ask(url, None, action="contacts")["contacts"][0]["contact_name"] == "John Doe"
        # A new minute may begin before one of these, not before both.
        assert "Too many requests" in [ask(url, None).get("error") for _ in range(3)]


def test_the_help_teaches_by_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """With a request that can be pasted."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert "flowiq sandbox --contacts 40 --lively" in said
    assert "whatsappNumber=27123456789" in said


WRONG = [
    *(["--contacts", text] for text in ("-1", "ten", "1.5", "")),
    *(["--port", text] for text in ("-1", "70000")),
    *(["--tenant", text] for text in ("", "a b", "a/b", "ä")),
    *(["--per-minute", text] for text in ("0", "x")),
    ["--burst", "0"],
    ["--limit", "month"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_wrong_option_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In the last line of what is said."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err.replace("\n", " ")


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """With what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit, match="2"):
            main(["--port", port])
    said = capsys.readouterr().err
    assert f"cannot listen on port {port}" in said
    assert "choose another with --port" in said
