"""What dlt's state of so many conversations weighs, and how long saving and loading it takes.

    python state.py CONVERSATIONS

Prints JSON.
"""

import json
import random
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from dlt.common.versioned_state import (
    compress_state,
    decompress_state,
    generate_state_version_hash,
    json_decode_state,
    json_encode_state,
)

from flowiq_source.loading.state import TenantState
from flowiq_source.reading.cursor import Cursor

NOW = datetime(2025, 7, 1, 6, 30, tzinfo=timezone.utc)


def main(conversations: int) -> dict[str, float]:
    """Bytes and seconds; what goes to the destination is compressed, the working copy is not."""
    state = pipeline_state(conversations)
    text, packed = json_encode_state(state), compress_state(state)
    return {
        "conversations": conversations,
        "json_bytes_each": len(text.encode()) / conversations,
        "compressed_bytes_each": len(packed) / conversations,
        "compressed_mb": len(packed) / 1e6,
        "hash_seconds": best(lambda: generate_state_version_hash(state)),
        "save_json_seconds": best(lambda: json_encode_state(state)),
        "save_compressed_seconds": best(lambda: compress_state(state)),
        "load_json_seconds": best(lambda: json_decode_state(text)),
        "load_compressed_seconds": best(lambda: decompress_state(packed)),
    }


def pipeline_state(conversations: int) -> Any:
    """A pipeline's state with a cursor for every conversation."""
    resource: dict[str, Any] = {}
    tenant = TenantState.kept(resource, "benchmark")
    rng = random.Random(1)
    for _ in range(conversations):
        contact_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        tenant.keep_cursor(contact_id, cursor(rng))
    return {
        "_state_version": 7,
        "_state_engine_version": 4,
        "pipeline_name": "flowiq_pipeline",
        "sources": {"flowiq": {"resources": {"messages": resource}}},
    }


def cursor(rng: random.Random) -> Cursor:
    """A conversation that was active in the last months, and was read within the last minutes."""
    read_at = NOW + timedelta(microseconds=rng.randrange(600_000_000))
    return Cursor(
        newest=NOW - timedelta(milliseconds=rng.randrange(10_000_000_000)),
        known=rng.randrange(1, 500),
        scan=(scan := rng.randrange(1, 9)),
        used=scan + rng.randrange(200),
        run=rng.randrange(1, 2_000),
        rescanned_at=read_at - timedelta(days=rng.randrange(40)),
        synced_at=NOW,
        first_page=f"{rng.getrandbits(32):08x}",
        number=f"{rng.getrandbits(32):08x}",
        last_id=f"{rng.getrandbits(16):04x}",
    )


def best(act: Callable[[], object]) -> float:
    """Seconds of the quickest of three tries."""
    return min(timed(act) for _ in range(3))


def timed(act: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
