"""What a user sets: one object for the source, `sync`, `plan` and `verify`, checked before use."""

import difflib
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional
from urllib.parse import urlsplit

import dlt
import tomlkit
from dlt.common.configuration import configspec
from dlt.common.configuration.const import TYPE_EXAMPLES
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.typing import TSecretStrValue, extract_inner_type
from tomlkit.exceptions import TOMLKitError

from flowiq_source.errors import ConfigurationError
from flowiq_source.times import BEGINNING, parse_timestamp

PRODUCTION_URL = "https://api.flowiq.live"

PAGE_SIZE = 100
"""Rows per page: the most that the API allows, because requests are what a run costs."""

REQUESTS_PER_MINUTE = 100
"""What the API allows an account."""

Backend = Literal["rows", "pyarrow"]


def pages_of(rows: int) -> int:
    """Requests that so many rows cost; an empty listing is a page too."""
    return max(1, -(-rows // PAGE_SIZE))


SHORTEST_KEY = 32
"""Characters of a hash key: 128 bits in hexadecimal."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_SECTION = "sources.flowiq"
_TABLES = ("models", "tenants")
"""Sections in it that have settings of their own."""
_PLACEHOLDER = TYPE_EXAMPLES["text"]
"""What `dlt init` writes for a secret that is to be filled in."""
_VARIABLE = re.compile("SOURCES?_+FLOW_?I_?Q_")
_KINDS: dict[Any, tuple[type, str]] = {
    str: (str, "a text"),
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
}


@configspec
class Settings(BaseConfiguration):
    """The settings under `sources.flowiq`; `flowiq_source` says what each means.

    dlt resolves them from arguments, environment and files, and then has them checked.

    Raises:
        ConfigurationError: a value is misspelt or cannot be right.
    """

    bearer_token: TSecretStrValue = None  # type: ignore[assignment]
    tenant_id: Optional[str] = None  # noqa: UP045 - dlt resolves the annotations of its specs
    base_url: str = PRODUCTION_URL
    phone_numbers: Optional[Any] = None  # noqa: UP045
    lookback_days: float = 7.0
    start_date: Optional[Any] = None  # noqa: UP045
    end_date: Optional[Any] = None  # noqa: UP045
    full_refresh: bool = False
    rescan_share: float = 0.0
    requests_per_minute: float = REQUESTS_PER_MINUTE
    rate_limit_share: float = 1.0
    max_requests: Optional[int] = None  # noqa: UP045
    max_minutes: Optional[float] = None  # noqa: UP045
    backend: str = "rows"
    package_conversations: int = 1_000
    package_minutes: float = 10.0
    delete_gone: bool = False
    force: bool = False
    columns: Optional[Any] = None  # noqa: UP045
    pseudonymise: bool = False
    keep_undocumented: Optional[Any] = None  # noqa: UP045
    hash_key: Optional[TSecretStrValue] = None  # noqa: UP045
    duckdb_storage_version: str = "v1.2.0"
    table_format: Optional[str] = None  # noqa: UP045

    def on_resolved(self) -> None:
        """Check everything that can be checked without a request."""
        _check_keys()
        given = {name: getattr(self, name) for name in self.get_resolvable_fields()}
        try:
            self._check_values()
        except Refused as refused:
            raise with_place(refused, given) from None

    def _check_values(self) -> None:
        if self.hash_key == _PLACEHOLDER:
            # `dlt init` writes one, and most have no use for a key.
            self.hash_key = None
        for name, hint in self.get_resolvable_fields().items():
            _check_kind(name, getattr(self, name), hint)
        _check_token(self.bearer_token)
        _check_url(self.base_url)
        tenant = self.tenant_key
        _check("tenant_id", _is_plain(tenant) and tenant == tenant.strip(), "must be a plain name")
        self._check_numbers()
        if self.backend not in ("rows", "pyarrow"):
            raise _refused("backend", 'is "rows" or "pyarrow"')
        if self.table_format not in (None, "delta", "iceberg"):
            raise _refused("table_format", 'is "delta" or "iceberg", or is left out')
        self.phone_numbers = _phone_numbers(self.phone_numbers)
        self.columns = _actions(self.columns)
        self.keep_undocumented = _names(self.keep_undocumented)
        _check_hash_key(self.hash_key)
        self.start_date, self.end_date = (
            None if value is None else _date(name, value)
            for name, value in (("start_date", self.start_date), ("end_date", self.end_date))
        )
        self._check_range()

    def _check_numbers(self) -> None:
        _check("requests_per_minute", 1 <= self.requests_per_minute < math.inf, "must be 1 or more")
        share = self.rate_limit_share
        _check("rate_limit_share", 0 < share <= 1, "must be above 0 and at most 1")
        _check("rescan_share", 0 <= self.rescan_share <= 1, "must be a share from 0 to 1")
        days = self.lookback_days
        _check("lookback_days", 0 <= days < 1e6, "must be a number of days from 0 to 999999")
        for name in ("max_requests", "max_minutes"):
            value = getattr(self, name)
            _check(name, value is None or value > 0, "must be above 0")
        _check("package_conversations", self.package_conversations > 0, "must be above 0")
        _check("package_minutes", self.package_minutes >= 0, "must be 0 or more")

    def _check_range(self) -> None:
        backfill = self.start_date is not None or self.end_date is not None
        if backfill and self.full_refresh:
            raise _refused("full_refresh", "reads everything: leave out start_date and end_date")
        if backfill and self.limited:
            raise _refused(
                "max_requests and max_minutes",
                "go with incremental syncs alone: a backfill keeps no account of what it has read",
            )
        if self.end_date is not None and (self.start_date or BEGINNING) >= self.end_date:
            raise _refused("start_date", "must be before end_date: the range is empty")

    @property
    def limited(self) -> bool:
        """Whether a run may not spend what it needs."""
        return self.max_requests is not None or self.max_minutes is not None

    @property
    def endpoint(self) -> str:
        """The one URL that the API answers on."""
        return self.base_url.rstrip("/").removesuffix("/conversations") + "/conversations"

    @property
    def tenant_key(self) -> str:
        """The `tenant_id` of every row; empty when none is configured and the token decides."""
        return self.tenant_id or ""

    @property
    def lookback(self) -> timedelta:
        """How far behind a conversation's newest message changes are looked for."""
        return timedelta(days=self.lookback_days)


class Refused(ConfigurationError):
    """A setting that cannot be right."""

    def __init__(self, names: str, why: str, section: str = _SECTION) -> None:
        super().__init__(f"{section}.{names} {why}")
        self.names, self.section = names, section


def _refused(name: str, why: str) -> ConfigurationError:
    return Refused(name, why)


def with_place(refused: Refused, given: Mapping[str, Any]) -> ConfigurationError:
    """The same with where it stands, if it is no argument."""
    name = refused.names.partition(" ")[0]
    place = place_of(name, refused.section)
    is_there = place is not None and place.holds(given[name])
    return ConfigurationError(f"{refused}{stands_in(place.name if place and is_there else None)}")


class Place(NamedTuple):
    """Where a setting is set: a variable, a file, or what else dlt reads from; and as what."""

    name: str
    value: Any

    def holds(self, value: Any) -> bool:
        """Whether this is the value, which dlt may have made of it."""
        return value == self.value or isinstance(self.value, str) or str(value) == str(self.value)


def place_of(name: str, section: str = _SECTION) -> Place | None:
    """Where dlt finds a setting; None where it is an argument, or not set."""
    sections = section.split(".")
    # dlt takes one of an outer section too; but COLUMNS is how wide a terminal is.
    depths = range(len(sections), -1 if name != "columns" else len(sections) - 1, -1)
    for provider in dlt.config.config_providers:
        for depth in depths:
            value, key = provider.get_value(name, Any, None, *sections[:depth])
            if value is not None:
                return Place(_place(provider, key), value)
    return None


def stands_in(place: str | None) -> str:
    """What an error says of the place."""
    return f" (it stands in {place})" if place else ""


def _place(provider: Any, key: str) -> str:
    if provider.name.startswith("Env"):
        return key
    # The project's file goes before that of dlt's own folder.
    files = [Path(file) for file in provider.present_locations or ()]
    holds = (file for file in files if _has(file, key.split(".")))
    return str(next(map(shortened, holds), provider.name))


def _has(file: Path, keys: Sequence[str]) -> bool:
    try:
        table: Any = tomlkit.parse(file.read_text(encoding="utf-8"))
        for key in keys:
            table = table[key]
    except (OSError, ValueError, KeyError, TypeError, TOMLKitError):
        return False
    return True


def shortened(file: Path) -> Path:
    """A file as a person names it from here."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def wrong_type(
    name: str, spec: type[BaseConfiguration] = Settings, section: str = _SECTION
) -> str | None:
    """What is wrong with a setting that dlt can make nothing of; None if it is none of the spec."""
    fields = spec.get_resolvable_fields()
    if name not in fields:
        return None
    _, what = _KINDS.get(extract_inner_type(fields[name]), (object, ""))
    place = place_of(name, section)
    return f"{section}.{name} must be {what or 'of another type'}" + stands_in(place and place.name)


def _check(name: str, right: bool, why: str) -> None:  # noqa: FBT001
    if not right:
        raise _refused(name, why)


def _check_kind(name: str, value: Any, hint: Any) -> None:
    """Refuse an argument of another type; dlt does so with what it reads from its config."""
    kind, what = _KINDS.get(extract_inner_type(hint), (object, ""))
    if value is not None and kind is not object:
        is_right = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        _check(name, is_right, f"must be {what}")


def _is_plain(text: str) -> bool:
    """Whether it may be one name; dlt makes a text of a list or a table."""
    return text.isprintable() and not set(text) & set('"[]{}')


def _check_keys() -> None:
    """Refuse a key that is no setting: a misspelt one would be passed over in silence."""
    known = Settings.get_resolvable_fields()
    for key, place in _configured_keys():
        if key not in known:
            hint = nearest(key, [*known, *_TABLES]) + stands_in(place)
            raise ConfigurationError(f"{_SECTION}.{key} is no setting: {hint}")


def check_keys(section: Sequence[str], known: Collection[str]) -> None:
    """Refuse a key of an inner section that is no setting.

    Raises:
        ConfigurationError: it is misspelt.
    """
    name = ".".join(section)
    for key, place in _keys_of(section):
        if key not in known:
            hint = nearest(key, known) + stands_in(place)
            raise ConfigurationError(f"{name}.{key} is no setting: {hint}")


def _keys_of(section: Sequence[str]) -> Iterator[tuple[str, str]]:
    *outer, last = section
    for provider in dlt.config.config_providers:
        keys = provider.get_value(last, Any, None, *outer)[0]
        for key in keys if isinstance(keys, dict) else ():
            yield key, _place(provider, ".".join([*section, key]))
    prefix = "__".join([*section, ""]).upper()
    for name in os.environ:
        if name.startswith(prefix):
            yield name[len(prefix) :].lower(), name


def nearest(name: str, known: Collection[str]) -> str:
    """What an error says of a name that is none of those known."""
    near = difflib.get_close_matches(name.lower(), known, 1, 0.58)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _configured_keys() -> Iterator[tuple[str, str]]:
    """Every key of the section, and where it stands."""
    # Each by itself: of a section in several files `dlt.config.get` gives that of the first.
    for provider in dlt.config.config_providers:
        _check_outer_section(provider)
        sources = provider.get_value("sources", Any, None)[0]
        for name, section in sources.items() if isinstance(sources, dict) else ():
            if name != "flowiq":
                _check_section(name, section, provider)
            elif isinstance(section, dict):
                keys = [key for key, value in section.items() if not _is_of_a_resource(key, value)]
                yield from ((key, _place(provider, f"{_SECTION}.{key}")) for key in keys)
    prefix = "SOURCES__FLOWIQ__"
    for name in os.environ:
        if name.startswith(f"{prefix}COLUMNS__"):
            raise _refused("columns", f"is one variable: {prefix}COLUMNS={_COLUMNS_EXAMPLE}")
        if name.startswith(prefix):
            if "__" not in name[len(prefix) :]:
                yield name[len(prefix) :].lower(), name
        elif _VARIABLE.match(name):
            _check_variable(name, prefix)


def _check_outer_section(provider: Any) -> None:
    """Refuse the section with a letter too few."""
    misnamed = provider.get_value("source", Any, None)[0]
    if isinstance(misnamed, dict) and "flowiq" in misnamed:
        place = stands_in(_place(provider, "source.flowiq"))
        raise ConfigurationError(f"source.flowiq is no section: did you mean {_SECTION}?{place}")


def _check_section(name: str, section: Any, provider: Any) -> None:
    """Refuse a section that is misspelt, as its keys show."""
    # The second is what the package and the function are called.
    is_near = difflib.get_close_matches(name.lower(), ["flowiq", "flowiq_source"], 1, 0.75)
    if is_near and isinstance(section, dict) and set(section) & {*Settings.get_resolvable_fields()}:
        place = _place(provider, f"sources.{name}")
        raise ConfigurationError(
            f"sources.{name} is no section: did you mean {_SECTION}?{stands_in(place)}"
        )


def _check_variable(name: str, prefix: str) -> None:
    """Refuse a variable that has but one underscore somewhere, or a letter too few."""
    variables = [f"{prefix}{key.upper()}" for key in Settings.get_resolvable_fields()]
    if near := difflib.get_close_matches(name, variables, 1, 0.9):
        raise ConfigurationError(f"the variable {name} is no setting: did you mean {near[0]}?")


def _is_of_a_resource(key: str, value: Any) -> bool:
    """Whether it is a table inside the section; a misspelt one must not pass for a resource's."""
    is_near = difflib.get_close_matches(key, ["columns", *_TABLES], 1, 0.75)
    return isinstance(value, dict) and (key in _TABLES or not is_near)


def _check_token(token: str) -> None:
    if token == _PLACEHOLDER:
        raise _refused("bearer_token", "is not filled in yet: put the token from FlowIQ there")
    # A header cannot carry white space or control characters, and quoting the value would leak it.
    if not token or not token.isascii() or not _is_plain(token) or set(token) & set(" '"):
        raise _refused(
            "bearer_token",
            "is empty or holds characters that no token has: "
            "copy it again from FlowIQ, without quotes, spaces or the word Bearer",
        )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    is_clean = url.isprintable() and " " not in url
    if not host or parts.username or parts.query or parts.fragment or not is_clean:
        raise _refused(
            "base_url",
            f"is not a plain URL such as https://host: the production value is {PRODUCTION_URL}",
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise _refused(
            "base_url",
            "must start with https:// (plain http is for loopback alone): "
            "the token would travel in the clear",
        )


def _phone_numbers(numbers: Any) -> Sequence[str] | None:
    if numbers is None:
        return None
    if isinstance(numbers, str):
        numbers = _json_list(numbers)
    if not isinstance(numbers, list | tuple):
        raise _refused("phone_numbers", 'must be a list of texts, such as ["27123456789"]')
    # TOML has numbers without quotes, too.
    texts = [str(number).strip() if type(number) in {str, int} else "" for number in numbers]
    for position, text in enumerate(texts, start=1):
        if not any(char.isdigit() for char in text):
            which = f"number {position} of {len(texts)}"
            raise _refused("phone_numbers", f"is wrong: {which} has no digits, or is no text")
    return texts


_COLUMNS_EXAMPLE = '{"messages.content": "drop"}'


def _actions(columns: Any) -> Mapping[str, str]:
    """What is to happen to which column, by `table.column`."""
    if isinstance(columns, str):
        columns = _json(columns)
    if isinstance(columns, int) or columns == "":
        # How wide the terminal is: dlt takes COLUMNS of the environment for any section's.
        columns = _configured("columns")
        columns = _json(columns) if isinstance(columns, str) else columns
    if columns is not None and not isinstance(columns, Mapping):
        raise _refused("columns", f"says what happens to which column, such as {_COLUMNS_EXAMPLE}")
    actions: dict[str, str] = {}
    for name, action in (columns or {}).items():
        # TOML makes a table of a key with a point unless it is quoted.
        nested = action if isinstance(action, Mapping) else None
        actions |= {f"{name}.{column}": a for column, a in nested.items()} if nested else {}
        actions |= {} if nested else {name: action}
    return actions


def _configured(name: str) -> Any:
    """What stands under `sources.flowiq` itself, wherever it stands first."""
    sections = _SECTION.split(".")
    found = (
        provider.get_value(name, Any, None, *sections)[0]
        for provider in dlt.config.config_providers
    )
    return next((value for value in found if value is not None), None)


def _names(names: Any) -> Sequence[str] | None:
    if isinstance(names, str):
        names = _json(names)
    if names is not None and not (
        isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    ):
        raise _refused("keep_undocumented", 'must be a list of names, such as ["message_type"]')
    return names


def _check_hash_key(key: str | None) -> None:
    if key is not None and (len(key) < SHORTEST_KEY or len(set(key)) < SHORTEST_KEY // 4):
        raise _refused(
            "hash_key",
            f"is too easy to guess: take {SHORTEST_KEY} random characters or more, "
            "such as `openssl rand -hex 32` prints",
        )


def _json(text: str) -> Any:
    """What an environment variable holds; the text itself if it is no JSON."""
    try:
        return dlt.common.json.loads(text)
    except ValueError:
        return text


def _json_list(text: str) -> Any:
    """What an environment variable holds, if it is a list."""
    value = _json(text) if text.lstrip().startswith("[") else None
    return None if isinstance(value, str) else value


def _date(name: str, value: Any) -> datetime:
    # A number would be seconds: 20260101 is a day in 1970.
    text = value.isoformat() if isinstance(value, date) else str(value)
    try:
        return parse_timestamp(text if isinstance(value, str | date) else None)
    except ValueError:
        raise _refused(
            name, "is no ISO 8601 time such as 2025-01-31 or 2025-01-31T12:00:00Z"
        ) from None
