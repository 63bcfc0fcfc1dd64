"""Which words stand in any file of a folder, or in what dlt's states say when they are unpacked."""

from collections.abc import Collection
from pathlib import Path

from dlt.common.versioned_state import decompress_state

from tests.support.warehouse import Warehouse


def found_in(folder: Path, words: Collection[str]) -> set[str]:
    """The words that stand in a file of the folder or of one below, or in a file's name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    text = b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in files)
    return {word for word in words if word.encode() in text}


def states_of(warehouse: Warehouse) -> str:
    """All that dlt's states in the destination say."""
    rows = warehouse.query("SELECT state FROM flowiq._dlt_pipeline_state")
    return "\n".join(str(decompress_state(state)) for (state,) in rows)
