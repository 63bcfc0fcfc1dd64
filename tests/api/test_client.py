"""What the client makes of every kind of answer, over real HTTP; waits are noted, not slept."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from random import Random
from typing import Any

import pytest

from flowiq_source import errors
from flowiq_source.api.answers import Page
from flowiq_source.api.client import FlowiqClient, Meter
from flowiq_source.sandbox import Contact, RateLimit, Reply, Sandbox, reply_json
from tests.support.history import expected, loaded, write
from tests.support.warehouse import UNLIMITED, Clock, Warehouse, impatient

OK = {"currentPage": 1, "totalPages": 1, "totalContacts": 0, "hasNextPage": False}


@pytest.fixture
def clock() -> Clock:
    """The time that the client's waits take."""
    return Clock()


@pytest.fixture
def waits(clock: Clock) -> list[float]:
    """How long the client would have slept."""
    return clock.waits


@pytest.fixture
def client(sandbox: Sandbox, clock: Clock) -> FlowiqClient:
    """A client of the sandbox that gives up on a silent server after a quarter of a second."""
    return FlowiqClient(**impatient(sandbox, clock), timeout_s=(0.25, 0.25))


def answering(sandbox: Sandbox, *replies: Reply) -> None:
    """Give these answers first, and then the sandbox's own."""
    pending = list(replies)
    sandbox.intercept = lambda params: pending.pop(0) if pending else None


def listing(client: FlowiqClient, **settings: Any) -> Page:
    """The first page of contacts, as `client` or one with other settings sees it."""
    if settings:
        client = replace(client, settings=replace(client.settings, **settings))
    return client.contacts(1, Meter())


def page(**changes: Any) -> Reply:
    """An answer to a listing with something changed, or left out where the change is None."""
    body = {"success": True, "contacts": [], "pagination": OK, "count": 0} | changes
    return reply_json(200, {name: value for name, value in body.items() if value is not None})


PERMANENT: dict[str, tuple[dict[str, Any], type[errors.FlowiqError], str]] = {
    "a wrong token": ({"bearer_token": "fiq_wrong"}, errors.CredentialsError, "HTTP 401"),
    "another tenant": ({"tenant_id": "another-organisation"}, errors.CredentialsError, "401"),
    "an unknown organisation": ({"tenant_id": "nobody"}, errors.UnknownOrganisation, "tenant_id"),
    "no tenant": ({"tenant_id": None}, errors.ConfigurationError, "set sources.flowiq.tenant_id"),
}


@pytest.mark.parametrize("case", PERMANENT)
def test_wrong_settings_are_named_and_not_tried_again(
    sandbox: Sandbox, client: FlowiqClient, waits: list[float], case: str
) -> None:
    """One request, exit status 2, and the setting to look at."""
    settings, kind, says = PERMANENT[case]
    with pytest.raises(kind, match=says) as caught:
        listing(client, **settings)
    assert caught.value.exit_status == 2
    assert waits == []
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(400, errors.BadRequest), (403, errors.CredentialsError)]
)
def test_other_permanent_answers_are_not_tried_again(
    sandbox: Sandbox, client: FlowiqClient, status: int, kind: type[Exception]
) -> None:
    """400 and 403 stay what they are."""
    answering(sandbox, reply_json(status, {"success": False, "error": "No"}))
    with pytest.raises(kind, match=f"HTTP {status}"):
        listing(client)
    assert len(sandbox.requests) == 1


HTML = Reply(200, b"<html>Please log in to the hotel's network</html>")
PASSING = {
    "429": reply_json(429, {"success": False, "error": "Too many requests"}),
    "500": reply_json(500, {"success": False, "error": "Internal server error"}),
    "502 with HTML": Reply(502, b"<html>Bad Gateway</html>"),
    "503": Reply(503, b""),
    "a reset before the answer": Reply(0, b""),
    "a reset in the body": Reply(200, page().body, cut_at=20),
    "silence": Reply(200, page().body, delay_s=0.6),
    "HTML with 200": HTML,
    "broken JSON": Reply(200, page().body[:-9]),
    "a JSON list": Reply(200, b"[]"),
    "success: false with 200": page(success=False),
    "no rows": page(contacts=None, pagination=OK | {"totalContacts": 1}),
    "rows that are no list": page(contacts={}, pagination=OK | {"totalContacts": 1}),
    "rows that are text": page(contacts="none"),
    "two Content-Lengths that differ": Reply(200, page().body, {"Content-Length": "7"}),
    "gzip that is none": Reply(200, page().body, {"Content-Encoding": "gzip"}),
    "no body": Reply(200, b""),
    "another page": page(pagination=OK | {"currentPage": 7}),
    "404 from something else": Reply(404, b"<html>Not Found</html>"),
}


@pytest.mark.parametrize("case", PASSING)
def test_a_passing_fault_is_tried_again(
    sandbox: Sandbox, client: FlowiqClient, waits: list[float], case: str
) -> None:
    """And the page comes through, each try counted."""
    sandbox.world.add_contact("27820000001")
    answering(sandbox, PASSING[case])
    meter = Meter()
    assert len(client.contacts(1, meter).rows) == 1
    assert meter.requests == len(sandbox.requests) == 2
    assert len(waits) == 1


@pytest.mark.parametrize("case", PASSING)
def test_a_lasting_fault_ends_in_one_clear_line(
    sandbox: Sandbox, client: FlowiqClient, waits: list[float], case: str
) -> None:
    """What was tried, what came back, what to do; after a bounded number of tries."""
    sandbox.intercept = lambda params: PASSING[case]
    with pytest.raises(errors.FlowiqError) as caught:
        listing(client)
    said = str(caught.value)
    assert said.startswith("listing contacts, page 1: ")
    assert "\n" not in said
    assert "hotel" not in said
    assert caught.value.__context__ is None
    assert caught.value.exit_status == 1
    assert 2 <= len(waits) < 20


def test_waiting_outlasts_a_rate_limit_window(
    sandbox: Sandbox, client: FlowiqClient, waits: list[float]
) -> None:
    """429s without any hint are waited out for minutes before the request fails."""
    sandbox.intercept = lambda params: PASSING["429"]
    with pytest.raises(errors.RateLimited):
        listing(client)
    assert 180 < sum(waits) < 600


NOW = 1_800_000_000
HINTS: dict[str, tuple[dict[str, str], float]] = {
    "seconds": ({"Retry-After": "7"}, 7),
    "a date": ({"Retry-After": formatdate(NOW + 42, usegmt=True)}, 42),
    "only the reset": ({"X-RateLimit-Reset": str(NOW + 33), "X-RateLimit-Remaining": "0"}, 33),
    "a reset in the past": ({"X-RateLimit-Reset": str(NOW - 5), "X-RateLimit-Remaining": "0"}, 0),
}


@pytest.mark.parametrize("case", HINTS)
def test_the_servers_own_hint_decides_the_wait(
    sandbox: Sandbox, client: FlowiqClient, waits: list[float], case: str
) -> None:
    """Measured on the server's clock, whatever ours says, with a second of jitter at most."""
    headers, wait_s = HINTS[case]
    headers = headers | {"Date": formatdate(NOW, usegmt=True)}
    answering(sandbox, Reply(429, PASSING["429"].body, headers))
    listing(client)
    assert wait_s <= waits[0] <= wait_s + 1


@pytest.mark.parametrize("per_minute", [100, UNLIMITED])
def test_the_documented_rate_limit_is_lived_with(
    warehouse: Warehouse, sandbox: Sandbox, clock: Clock, per_minute: float
) -> None:
    """A sync of more conversations than one burst allows waits, or is told to, and reads all."""
    sandbox.rate_limit = RateLimit(clock=lambda: clock.time_s)
    for n in range(200):
        write(sandbox, sandbox.world.add_contact(f"2782{n:07d}"), 1)
    summary = warehouse.sync_with(sandbox, clock=clock, per_minute=per_minute)
    assert summary.complete
    assert summary.read == 200
    assert clock.waits
    assert loaded(warehouse) == expected(sandbox)


def test_a_page_that_repeats_for_ever_ends(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The conversation fails with a reason, and the sync goes on."""
    write(sandbox, alice, 3)

    def intercept(params: dict[str, str]) -> Reply | None:
        if params["action"] == "contacts":
            return None
        rows = [{"id": "same", "content": "again", "timestamp": "2026-01-01T00:00:00Z"}]
        pagination = {"currentPage": int(params["page"]), "totalPages": 10**6}
        pagination |= {"totalMessages": 10**8, "hasNextPage": True}
        return reply_json(200, {"success": True, "messages": rows, "pagination": pagination})

    sandbox.intercept = intercept
    summary = warehouse.sync(sandbox)
    assert summary.failed == 1
    assert len(sandbox.requests) < 10
    assert "repeats a page" in warehouse.one("SELECT error FROM flowiq.conversations")


def test_a_count_that_never_comes_true_is_noted(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """Nothing is lost silently: the rows load, the conversation says how many it counts more."""

    def intercept(params: dict[str, str]) -> Reply | None:
        if params["action"] == "contacts":
            return None
        rows = [{"id": "one", "content": "here", "timestamp": "2026-01-01T00:00:00Z"}]
        pagination = OK | {"totalMessages": 2}
        return reply_json(200, {"success": True, "messages": rows, "pagination": pagination})

    sandbox.intercept = intercept
    assert warehouse.sync(sandbox).complete
    assert warehouse.query("SELECT message_count, surplus FROM flowiq.conversations") == [(2, 1)]
    assert warehouse.one("SELECT count(*) FROM flowiq.messages") == 1


def test_an_api_without_a_count_is_read_to_the_end_each_time(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """The OpenAPI file does not promise totalMessages."""
    write(sandbox, alice, 250)
    real = sandbox._messages

    def without_total(params: dict[str, str]) -> Reply:
        answer = json.loads(real(params).body)
        del answer["pagination"]["totalMessages"]
        return reply_json(200, answer)

    sandbox.intercept = lambda params: (
        without_total(params) if params["action"] == "conversation-messages" else None
    )
    for _ in range(2):
        assert warehouse.sync(sandbox).complete
        assert len(sandbox.requests) == 1 + 3
    assert loaded(warehouse) == expected(sandbox)


@pytest.fixture
def nobody() -> Iterator[str]:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_no_connection_says_where_to_look(client: FlowiqClient, nobody: str) -> None:
    """Neither a URL nor a query in the text."""
    with pytest.raises(errors.Unreachable, match="no connection: check the network") as caught:
        listing(client, base_url=nobody)
    assert "127.0.0.1" not in str(caught.value)


def test_a_name_that_does_not_resolve_says_where_to_look(client: FlowiqClient) -> None:
    """`.invalid` is reserved for names that never resolve."""
    with pytest.raises(
        errors.Unreachable, match=r"check the network and sources\.flowiq\.base_url"
    ):
        listing(client, base_url="https://flowiq.invalid")


def test_a_redirect_is_not_followed(sandbox: Sandbox, client: FlowiqClient) -> None:
    """The token stays with the configured host."""
    target = f"{sandbox.url}/elsewhere"
    sandbox.intercept = lambda params: Reply(302, b"", {"Location": target})
    with pytest.raises(errors.NotFlowiq, match="HTTP 302"):
        listing(client)
    assert all(request.get("action") == "contacts" for request in sandbox.requests)


def test_a_netrc_entry_does_not_replace_the_token(
    client: FlowiqClient, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests library would prefer it to a plain header."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert listing(client).rows == []


@pytest.mark.parametrize("value", ["27820000001", "ZA.1349xyz", "+27 82 000 0001", "a&b=c"])
def test_a_contact_is_asked_for_as_it_is_given(
    sandbox: Sandbox, client: FlowiqClient, value: str
) -> None:
    """By both documented names of the parameter."""
    answering(sandbox, reply_json(200, {"success": True, "contact": {"id": "1"}}))
    assert client.contact_by_phone(value, Meter()) == {"id": "1"}
    [asked] = sandbox.requests
    assert (asked["phoneNumber"], asked["whatsappNumber"]) == (value, value)


@pytest.mark.parametrize(("ascending", "first"), [(False, "2"), (True, "1")])
def test_a_conversation_is_read_from_either_end(
    sandbox: Sandbox, client: FlowiqClient, alice: Contact, ascending: bool, first: str
) -> None:
    """Newest first, unless asked otherwise."""
    for content in ("1", "2"):
        sandbox.world.add_message(alice, content=content)
    page = client.messages({"contactId": alice.id}, 1, Meter(), ascending=ascending)
    assert page.rows[0]["message"] == first
    assert len(page.fingerprint) == 8


def test_the_same_answer_has_the_same_fingerprint(
    sandbox: Sandbox, client: FlowiqClient, alice: Contact
) -> None:
    """And another when anything in it has changed."""

    def fingerprint() -> str:
        return client.messages({"contactId": alice.id}, 1, Meter()).fingerprint

    message = sandbox.world.add_message(alice)
    before = fingerprint()
    assert before == fingerprint()
    message.status = "failed"
    assert before != fingerprint()


class Cancelled(BaseException):
    """What a wait may raise."""


@pytest.mark.parametrize("limited", [False, True])
def test_a_wait_may_end_the_run(sandbox: Sandbox, clock: Clock, limited: bool) -> None:
    """Whether it is for the next request's turn or for the next try; no other request is sent."""

    def cancel(seconds: float) -> None:
        raise Cancelled

    arguments = impatient(sandbox, clock, 1 if limited else UNLIMITED) | {"sleep": cancel}
    client, meter = FlowiqClient(**arguments), Meter()
    if not limited:
        sandbox.intercept = lambda params: PASSING["500"]
    if limited:
        client.contacts(1, meter)
    with pytest.raises(Cancelled):
        client.contacts(1, meter)
    assert meter.requests == len(sandbox.requests) == 1
    client.close()


def test_many_threads_share_a_client(sandbox: Sandbox, clock: Clock) -> None:
    """Each request's faults and tries are its own."""
    client = FlowiqClient(**impatient(sandbox, clock))
    for n in range(250):
        sandbox.world.add_contact(f"2782{n:07d}")
    random, lock = Random(1), threading.Lock()

    def intercept(params: dict[str, str]) -> Reply | None:
        with lock:
            return PASSING["503"] if random.random() < 0.2 else None

    sandbox.intercept = intercept
    meters = [Meter() for _ in range(64)]
    with ThreadPoolExecutor(16) as threads:
        pages = list(threads.map(lambda n: client.contacts(n % 3 + 1, meters[n]), range(64)))
    assert [len(page.rows) for page in pages] == [(100, 100, 50)[n % 3] for n in range(64)]
    assert sum(meter.requests for meter in meters) == len(sandbox.requests)
    assert sum(meter.requests - meter.wasted for meter in meters) == 64
    client.close()


def test_thirty_percent_of_requests_may_fail(
    warehouse: Warehouse, sandbox: Sandbox, all_logs: Callable[[], str]
) -> None:
    """At random, in every way, and the warehouse still ends equal to the API."""
    for n in range(20):
        write(sandbox, sandbox.world.add_contact(f"2782{n:07d}"), 60 * (n % 4))
    faults = [fault for name, fault in PASSING.items() if name != "silence"]
    tries: Counter[str] = Counter()

    def intercept(params: dict[str, str]) -> Reply | None:
        # By request and try, not by order: that is the network's affair.
        request = repr(sorted(params.items()))
        tries[request] += 1
        random = Random(f"{request}/{tries[request]}")
        return random.choice(faults) if random.random() < 0.3 else None

    sandbox.intercept = intercept
    for _ in range(2):
        summary = warehouse.sync_with(sandbox)
        assert summary.complete
        assert summary.requests == len(sandbox.requests)
    assert loaded(warehouse) == expected(sandbox)
    assert sandbox.token not in all_logs()
