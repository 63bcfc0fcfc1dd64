"""Names for a tenant's pipeline: readable, safe everywhere, and never two tenants' own."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowiq_source.tenants import tenant_suffix


@pytest.mark.parametrize("tenant", ["acme", "acme2", "north_star"])
def test_a_plain_tenant_is_its_own_name(tenant: str) -> None:
    """So that a person recognises it."""
    assert tenant_suffix(tenant) == f"_{tenant}"


def test_without_a_tenant_there_is_no_ending() -> None:
    """The token decides then."""
    assert tenant_suffix("") == ""


SIMILAR = [
    "ac-me",
    "ac.me",
    "ac/me",
    "ac_me",
    "ac__me",
    "Ac-Me",
    "_ac_me",
    "東京",
    "大阪",
    "é",
    "e",
]


def test_tenants_that_look_alike_have_different_names() -> None:
    """Also where dlt would fold them into one."""
    assert len({tenant_suffix(tenant) for tenant in SIMILAR}) == len(SIMILAR)


@given(st.text(min_size=1))
def test_a_name_survives_every_destination(tenant: str) -> None:
    """Lower-case ASCII, no repeated underscore, short."""
    suffix = tenant_suffix(tenant)
    assert re.fullmatch("(_[a-z0-9]+)+", suffix)
    assert len(suffix) <= 40
