"""What is kept of a conversation from one sync to the next comes back as it was."""

from datetime import datetime, timezone
from typing import Any

import pytest

from flowiq_source.loading.state import OpenRun, TenantState
from flowiq_source.reading.cursor import Cursor

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(),
        Cursor(NOW.replace(microsecond=678901), 250, 1, 3, 4, 5, NOW, NOW, first_page="0a1b2c3d"),
        Cursor(NOW.replace(year=1969), 1, -2, 1, 1, 1, NOW, NOW, doubtful=True, unlisted=True),
        Cursor(None, 0, 0, 2, 2, 9, NOW, NOW, missing=True),
        Cursor(NOW, 50_000, used=1, next_page=501),
        Cursor(failed=True, run=3),
        Cursor(NOW, 3, number="0a1b", last_id="2c3d"),
        Cursor(NOW, 3, last_id="2c3d"),
    ],
)
def test_a_cursor_comes_back(cursor: Cursor) -> None:
    """To the microsecond for the newest message, to the millisecond for our own doings."""
    state = TenantState.kept({}, "acme")
    state.keep_cursor("ann", cursor)
    assert state.cursors() == {"ann": cursor}


@pytest.mark.parametrize("entry", [[1767225600000000, 250, 0, 0, 0], "1,2,3", "", None, {}, 7])
def test_a_cursor_of_an_earlier_shape_is_as_good_as_none(entry: Any) -> None:
    """Its conversation is read whole."""
    assert TenantState({"cursors": {"ann": entry}}).cursors() == {}


def test_a_cursor_that_is_forgotten_keeps_the_numbers_of_its_readings() -> None:
    """The next reading goes to the beginning, and its number is higher than all before."""
    state = TenantState.kept({}, "acme")
    before = Cursor(NOW, 250, 0, 3, 4, 5, NOW, NOW, "0a1b2c3d", missing=True)
    state.keep_cursor("ann", before)
    state.forget_cursor("ann")
    state.forget_cursor("bob")
    [after] = state.cursors().values()
    assert (after.newest, after.first_page, after.missing, after.run) == (None, "", False, 0)
    assert (after.known, after.scan, after.used) == (250, 3, 4)


def test_the_tenants_of_a_state_are_apart() -> None:
    """What one keeps, another does not see; reading adds nothing."""
    raw: dict[str, Any] = {}
    TenantState.kept(raw, "one").keep_cursor("ann", Cursor(used=1))
    assert TenantState.of(raw, "two").cursors() == {}
    assert list(raw["tenants"]) == ["one"]


def test_a_run_that_goes_on_is_kept_until_its_end() -> None:
    """With its number, its beginning and whether it is a full refresh."""
    state = TenantState.kept({}, "acme")
    assert (state.run, state.open_run) == (0, None)
    state.keep_run(7, OpenRun(NOW, full_refresh=True))
    assert (state.run, state.open_run) == (7, OpenRun(NOW, full_refresh=True))
    state.keep_run(7, None)
    assert (state.run, state.open_run) == (7, None)


def test_the_last_two_load_packages_are_kept() -> None:
    """The second is what the first was read on top of; a state that begins anew knows neither."""
    state = TenantState.kept({}, "acme")
    for load_id in ("1.0", "2.0", "2.0", "3.0"):
        state.keep_load(load_id, ["reactions"], anew=False)
    assert state.load_ids == ["2.0", "3.0"]
    assert (state.has_reactions, state.has_conversations) == (True, False)
    state.keep_load("4.0", ["conversations"], anew=True)
    assert state.load_ids == ["4.0"]
    assert (state.has_reactions, state.has_conversations) == (False, True)
