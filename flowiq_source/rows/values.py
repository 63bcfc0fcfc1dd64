"""A value of the API as its column holds it, or why it does not fit; any JSON value will do."""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from flowiq_source.rows.identities import identity
from flowiq_source.times import parse_timestamp

MAX_KEY = 512
"""Characters of an id or a number; what is longer is none, and no warehouse could look for it."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_EXACT = 2**53
"""From here on a float no longer says which whole number was meant."""


class Misfit(ValueError):
    """A value does not fit the type of its column; the text says why, without the value."""


def storable(text: str) -> str:
    """The text with U+FFFD for NUL and lone surrogates, which no warehouse can hold."""
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", REPLACEMENT, text)
    return text


def json_text(value: object) -> str:
    """The value as JSON, however deep or large it is.

    Inside a list or an object NaN and the infinities are texts, so that a warehouse can read it.
    NUL stands as it is and not as an escape, so that `storable` finds it.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=isinstance(value, float))
    except (ValueError, RecursionError):
        text = "".join(_json_parts(value))
    if r"\u0000" not in text:
        return text
    # A pair of backslashes is passed over, because it escapes nothing that follows.
    return re.sub(r"(\\\\)|\\u0000", lambda match: match[1] or "\0", text)


def _json_parts(value: object) -> Iterator[str]:
    """What `json.dumps` would make of the value, without its limits of depth and size."""
    left: list[Any] = [(value,)]
    while left:
        part = left.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part[0], dict):
            keys = (f"{json.dumps(key, ensure_ascii=False)}: " for key in part[0])
            pairs = zip(keys, part[0].values(), strict=True)
            left += _backwards("{", [(key, (inner,)) for key, inner in pairs], "}")
        elif isinstance(part[0], list):
            left += _backwards("[", [((inner,),) for inner in part[0]], "]")
        else:
            yield _scalar(part[0])


def _backwards(begin: str, items: list[tuple[Any, ...]], end: str) -> list[Any]:
    parts = [part for item in items for part in (", ", *item)][1:]
    return [end, *reversed(parts), begin]


def _scalar(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'"{json.dumps(value)}"'
    # Python writes no int of more than 4,300 digits.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(Decimal(value))
    return json.dumps(value, ensure_ascii=False)


def kind_of(value: object) -> str:
    """What a value is, for a reason."""
    kinds = {bool: "a boolean", str: "text", dict: "an object", list: "a list"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _whole(value: object) -> object:
    """A whole number for JSON's 3.0; anything else as it is."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value


def as_text(value: object) -> str:
    """Text, or a number as it was written."""
    if isinstance(value, str):
        return value
    finite = math.isfinite(value) if isinstance(value, float) else isinstance(value, int)
    if isinstance(value, bool) or not finite:
        raise Misfit(f"{kind_of(value)} where text is documented")
    return json_text(_whole(value))


def as_content(value: object) -> str:
    """Text; structured messages are documented as JSON inside one, an object says the same."""
    return json_text(value) if isinstance(value, dict | list) else as_text(value)


def as_short_text(value: object) -> str:
    """Text that can be part of a key."""
    text = as_text(value)
    if len(text) > MAX_KEY:
        raise Misfit(f"{kind_of(value)} of more than {MAX_KEY} characters")
    return text


def as_id(value: object) -> str | None:
    """An id; None for a blank text."""
    text = as_short_text(value)
    # Two ids could become one.
    if storable(text) != text:
        raise Misfit("characters that no warehouse can hold, where an id is documented")
    return None if is_blank(text) else text


def as_number(value: object) -> str | None:
    """The digits of a phone number; None for a blank text or an id that hides the number."""
    text = as_short_text(value)
    who = identity(text)
    if who is None and not is_blank(text):
        raise Misfit("no digits where a phone number is documented")
    return who.value if who and who.kind == "phone" else None


_WORDS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def as_bool(value: object) -> bool | None:
    """True or false, as JSON's own or as a word or number that means nothing else."""
    word = json_text(_whole(value)) if isinstance(value, bool | int | float) else value
    if is_blank(word):
        return None
    if isinstance(word, str) and word.strip().lower() in _WORDS:
        return _WORDS[word.strip().lower()]
    raise Misfit(f"{kind_of(value)} where true or false is documented")


def as_bot_status(value: object) -> str:
    """The API's word; a boolean is documented too."""
    if isinstance(value, bool):
        return "active" if value else "paused"
    return as_text(value)


def as_bigint(value: object) -> int | None:
    """A whole number of 64 bits, also written as text; None for a blank text."""
    if is_blank(value):
        return None
    number = _whole(value)
    if isinstance(number, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", number):
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool):
        raise Misfit(f"{kind_of(value)} where a whole number is documented")
    if not -(2**63) <= number < 2**63:
        raise Misfit("a number beyond 64 bits")
    return number


def as_time(value: object) -> Any:
    """A UTC time; None for a blank text."""
    if is_blank(value):
        return None
    try:
        return parse_timestamp(value)
    except ValueError as error:
        raise Misfit(f"{kind_of(value)} that is {error}") from None


def is_blank(value: object) -> bool:
    """Whether it is a text without any content."""
    return isinstance(value, str) and not value.strip()
