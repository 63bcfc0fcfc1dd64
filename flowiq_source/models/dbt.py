"""Writes the models as a dbt package: `python -m flowiq_source.models.dbt [FOLDER]`.

The SELECTs, their docs and their keys come from `sql/`; what is written by hand in the folder
(project, sources, unit tests, exposures) stays.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from flowiq_source.models.definitions import NAMES, OURS, Model, models

NOTE = "Written by python -m flowiq_source.models.dbt: change flowiq_source/models instead."
_CALL = re.compile(rf"\b({'|'.join(OURS)})\(([^()]*)\)")


def package() -> dict[str, str]:
    """The generated files, by their paths within the package."""
    files = {f"models/{model.name}.sql": _select(model) for model in models()}
    files["models/models.yml"] = _docs()
    return files | {f"macros/{name}.sql": _macro(name) for name in OURS}


def _select(model: Model) -> str:
    sql = re.sub(r"\b(FROM|JOIN) (\w+) AS", lambda m: _reference(model, *m.groups()), model.sql)
    sql = _CALL.sub(lambda m: _call(m[1], m[2].split(", ")), sql)
    return f"{{# {NOTE} #}}\n{sql}\n"


def _reference(model: Model, word: str, table: str) -> str:
    if re.search(rf"^(WITH )?{table} AS \(", model.sql, re.MULTILINE):
        return f"{word} {table} AS"
    source = f"ref('{table}')" if table in NAMES else f"source('flowiq', '{table}')"
    return f"{word} {{{{ {source} }}}} AS"


def _call(name: str, arguments: Sequence[str]) -> str:
    return f"{{{{ {name}({', '.join(repr(one) for one in arguments)}) }}}}"


def _macro(name: str) -> str:
    written = OURS[name]
    arguments = ["x"] if "{1}" not in written["duckdb"] else ["x", "y"]
    listed, parts = ", ".join(arguments), [f"{{# {NOTE} #}}"]
    parts.append(
        f"{{% macro {name}({listed}) %}}{{{{ return(adapter.dispatch('{name}', 'flowiq')({listed}))"
        " }}{% endmacro %}"
    )
    for dialect, text in written.items():
        filled = text.format(*(f"{{{{ {one} }}}}" for one in arguments))
        parts.append(f"{{% macro {dialect}__{name}({listed}) %}}{filled}{{% endmacro %}}")
    return "\n\n".join(parts) + "\n"


def _docs() -> str:
    lines = [f"# {NOTE}", "version: 2", "models:"]
    for model in models():
        lines += [
            f"  - name: {model.name}",
            f"    description: {_quoted(f'{model.about} Grain: {model.grain}')}",
            "    data_tests:",
            f"      - unique_key: {{arguments: {{columns: [{', '.join(model.key)}]}}}}",
            "    columns:",
        ]
        for column, text in model.columns.items():
            lines += [f"      - name: {column}", f"        description: {_quoted(text)}"]
            if column in model.key:
                lines.append("        data_tests: [not_null]")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def write(folder: Path) -> None:
    """Write the generated files into the package."""
    for name, text in package().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(*sys.argv[1:2] or ["dbt"]))
