"""The models in DuckDB, and in PostgreSQL where there is one."""

from collections.abc import Iterator

import pytest

from tests.support.destinations import NEEDS_POSTGRES
from tests.support.modelled import Modelled, in_memory, in_postgres


@pytest.fixture(params=["duckdb", pytest.param("postgres", marks=NEEDS_POSTGRES)])
def model(request: pytest.FixtureRequest) -> Iterator[Modelled]:
    """The models over messages that a test makes up."""
    if request.param == "duckdb":
        yield in_memory()
        return
    with in_postgres() as modelled:
        yield modelled
