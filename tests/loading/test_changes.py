"""How many of the messages that are read again have changed, as the summary counts them."""

from pathlib import Path

import pytest
from dlt.destinations.exceptions import DatabaseTerminalException

from flowiq_source import flowiq_source, sync
from flowiq_source.loading import feed
from flowiq_source.sandbox import Contact, Sandbox
from tests.support.destinations import DESTINATIONS, Destination
from tests.support.history import DAY, HOUR, write
from tests.support.warehouse import UNLIMITED, Warehouse

KEY = "0123456789abcdef" * 4


@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize("backend", ["rows", "pyarrow"])
@pytest.mark.parametrize("pseudonymise", [False, True])
def test_known_messages_are_told_from_changed_ones(
    sandbox: Sandbox, tmp_path: Path, destination: Destination, backend: str, pseudonymise: bool
) -> None:
    """An edit, a reaction that comes, one that goes, a status; and no other one."""
    alice, bob = (sandbox.world.add_contact(f"2782000000{n}") for n in (1, 2))
    write(sandbox, alice, 40)
    write(sandbox, bob, 5)
    old = sandbox.world.now - 9 * DAY
    alice.messages[3].reactions = [{"emoji": "👍", "sender": bob.number}]
    alice.messages[4].reactions = [{"emoji": "👍", "sender": bob.number}]
    with destination(tmp_path) as pipeline:

        def synced() -> tuple[int | None, ...]:
            source = flowiq_source(
                sandbox.token,
                sandbox.tenant,
                sandbox.url,
                requests_per_minute=UNLIMITED,
                backend=backend,  # type: ignore[arg-type]
                pseudonymise=pseudonymise,
                hash_key=KEY if pseudonymise else None,
            )
            summary = sync(pipeline(), source)
            return summary.newer, summary.known, summary.changed

        assert synced() == (45, 0, 0)
        assert synced() == (0, 0, 0)
        alice.messages[1].content = "edited"
        alice.messages[2].reactions = [{"emoji": "🙏🏽", "sender": bob.number}]
        alice.messages[3].reactions = []
        alice.messages[5].status = "failed"
        assert synced() == (0, 40, 4)
        bob.messages[0].extra = {"forwarded": "yes"}
        sandbox.world.add_message(bob, sandbox.world.now + HOUR, content="new")
        sandbox.world.advance(2 * HOUR)
        assert synced() == (1, 5, 0 if pseudonymise else 1)
        sandbox.world.add_message(bob, old, content="late")
        assert synced() == (0, 6, 0)


def test_the_summary_says_what_changed_and_what_came_late(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """So that the rows written puzzle nobody."""
    write(sandbox, alice, 10)
    assert "changed" not in str(warehouse.sync(sandbox))
    alice.messages[-1].content = "edited"
    sandbox.world.add_message(alice, sandbox.world.now - 9 * DAY, content="late")
    lines = str(warehouse.sync(sandbox)).splitlines()
    assert lines[0] == "new             0 messages, and 1 older ones that were not here"
    assert lines[1] == "changed         1 of 10 known messages that were read again"
    backfill = str(warehouse.sync(sandbox, start_date="2020-01-01")).splitlines()
    assert backfill[:2] == [
        "new             0 messages of the range",
        "changed         0 of 11 known messages that were read again",
    ]


def test_what_the_users_steps_change_is_not_counted(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact
) -> None:
    """What is stored is not what was read, so the summary says less."""
    write(sandbox, alice, 3)
    for _ in range(2):
        source = warehouse.source(sandbox)
        source.messages.add_map(lambda row: row | {"content": None})
        summary = sync(warehouse.pipeline, source)
        alice.messages[0].status = "failed"
    assert (summary.newer, summary.known, summary.changed) == (0, None, None)
    assert "read again      3 known messages, changed or not" in str(summary)


def test_a_count_that_cannot_be_had_ends_no_sync(
    warehouse: Warehouse, sandbox: Sandbox, alice: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a number in the summary."""
    write(sandbox, alice, 3)
    warehouse.sync(sandbox)

    def refuse(*_: object) -> tuple[int, int]:
        raise DatabaseTerminalException(ValueError("no"))

    monkeypatch.setattr(feed, "count_changes", refuse)
    alice.messages[0].status = "failed"
    summary = warehouse.sync(sandbox)
    assert (summary.complete, summary.changed, summary.rows["messages"]) == (True, None, 3)
