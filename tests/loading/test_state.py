"""What is kept of a conversation from one sync to the next comes back as it was."""

from datetime import datetime, timezone

import pytest

from flowiq_source.loading.state import TenantState
from flowiq_source.reading.walk import Cursor

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(NOW.replace(microsecond=678901), 250, NOW, NOW, first_page="0a1b2c3d"),
        Cursor(NOW.replace(year=1969), 1, NOW, NOW),
        Cursor(None, 0, NOW, NOW, missing=True),
    ],
)
def test_a_cursor_comes_back(cursor: Cursor) -> None:
    """To the microsecond for the newest message, to the millisecond for our own doings."""
    state = TenantState.kept({}, "acme")
    state.keep_cursor("ann", cursor)
    assert state.cursor("ann") == cursor
    assert state.cursor("bob") is None


def test_a_cursor_of_an_earlier_shape_is_as_good_as_none() -> None:
    """Its conversation is read whole."""
    assert TenantState({"cursors": {"ann": [1767225600000000, 250, 0, 0, 0]}}).cursor("ann") is None
