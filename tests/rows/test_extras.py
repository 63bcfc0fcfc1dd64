"""Undocumented fields: names that are no data, and a bound that holds."""

import re
import string
from concurrent.futures import ThreadPoolExecutor

import pytest
from dlt.common.normalizers.naming.snake_case import NamingConvention
from hypothesis import example, given
from hypothesis import strategies as st

from flowiq_source.rows.columns import CONTACT, MESSAGE, OUR_COLUMNS, REACTION, UNDOCUMENTED
from flowiq_source.rows.extras import BOUND, ExtraColumns, column_name, extra_columns, split


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("waMessageId", "wa_message_id"),
        ("HTTPStatus", "http_status"),
        ("source.type", "source_type"),
        ("Broadcast Id", "broadcast_id"),
        ("address-line-2", "address_line_2"),
        ("sha256", "sha256"),
        ("__v", "v"),
        ("feedback", "feedback"),
        ("decade", "decade"),
        ("x" * 48, "x" * 48),
    ],
)
def test_a_name_is_written_in_snake_case(key: str, name: str) -> None:
    """As dlt would write it."""
    assert column_name(key) == name


@pytest.mark.parametrize(
    "key",
    [
        "",
        "_",
        "...",
        "27820000001",
        "+27 82 000 0001",
        "tel 082 123 4567",
        "p27-82-000",
        "user_1234",
        "1st",
        "_1st",
        "a@example.com",
        "a+b",
        "$oid",
        "é",
        "אב",
        "😀",
        "٢٧",
        "\0",
        "\ud800",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "abcdefab-cdef-abcd-efab-cdefabcdefab",
        "deadbeef1",
        "wamid.HBgL1A2B3C",
        "x" * 49,
    ],
)
def test_data_is_no_name(key: str) -> None:
    """Numbers, addresses, ids and other scripts never get into the schema."""
    assert column_name(key) == ""
    assert split({key: 1}, "messages", extra_columns()) == ({}, {key: 1})


NAMES = st.text(st.sampled_from(string.ascii_letters + string.digits + "_-. "), max_size=50)
TAKEN = {*MESSAGE, *CONTACT, *REACTION, *OUR_COLUMNS, UNDOCUMENTED}


@given(st.lists(NAMES | st.sampled_from(sorted(TAKEN)) | st.text(max_size=8), unique=True))
@example(["aB" * 24, "orderId", "order_id", "api_scan", "scan", "api_api_scan"])
@example(["oid", "xmin", "row_id", "rowid", "_dlt_id", "_dlt_load_id"])
def test_every_field_has_a_place_of_its_own(keys: list[str]) -> None:
    """A column that dlt and every warehouse leave as it is, out of our way, or `undocumented`."""
    for table, documented in (
        ("messages", MESSAGE),
        ("contacts", CONTACT),
        ("reactions", REACTION),
    ):
        columns, others = split({key: key for key in keys}, table, extra_columns())
        assert sorted([*columns.values(), *others.values()]) == sorted(keys)
        for name in columns:
            assert re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
            assert NamingConvention().normalize_identifier(name) == name
            assert len(name) <= 63
            assert name not in {*documented, *OUR_COLUMNS, UNDOCUMENTED, "oid", "xmin", "row_id"}


def test_the_bound_holds_over_rows_and_tables_apart() -> None:
    """What is known stays a column; of what is new, so much as there is room for."""
    extras = extra_columns({"messages": ["old", "older"]}, bound=3)
    assert split({"old": 1, "a": 1, "b": 1}, "messages", extras) == ({"old": 1, "a": 1}, {"b": 1})
    assert split({"b": 1, "a": 2}, "messages", extras) == ({"a": 2}, {"b": 1})
    assert split({"b": 1}, "contacts", extras) == ({"b": 1}, {})


def test_more_known_columns_than_the_bound_are_all_kept() -> None:
    """They are there already; there is no room for another."""
    extras = ExtraColumns(f"f{n}" for n in range(BOUND + 5))
    assert (extras.admit(f"f{BOUND + 4}"), extras.admit("another")) == (True, False)


def test_the_bound_holds_between_threads() -> None:
    """All of them together get as many columns as one."""
    extras = ExtraColumns()
    with ThreadPoolExecutor(8) as threads:
        admitted = list(threads.map(lambda n: extras.admit(f"f{n % 500}"), range(4_000)))
    assert sum(admitted) == BOUND * 8
