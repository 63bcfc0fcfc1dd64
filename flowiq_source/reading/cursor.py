"""What is kept of a conversation from one sync to the next."""

import zlib
from datetime import datetime, timedelta
from typing import NamedTuple

from flowiq_source.times import BEGINNING


def short(text: str) -> str:
    """Eight characters that tell one text from another; two of 4·10^9 have the same."""
    return f"{zlib.crc32(text.encode(errors='replace')):08x}"


def shorter(text: str) -> str:
    """Four of them, where it is enough to find a text again, because the state holds many."""
    return short(text)[:4]


class Cursor(NamedTuple):
    """Where a conversation's next sync starts; all times UTC.

    Every reading has a number, one more than the one before, which its rows carry as `scan`. A
    message is gone when its number is below that of the last complete reading: no clock decides.
    """

    newest: datetime | None = None
    """Newest timestamp read, but never past the start of the run that read it."""
    known: int = 0
    """Messages at or before `newest`; rows that no time is known of belong to them."""
    surplus: int = 0
    """By how many the API's count exceeds the rows that it hands out, twice in a row."""
    scan: int = 0
    """The number of the last complete reading."""
    used: int = 0
    """The highest number that any row of the conversation may carry."""
    run: int = 0
    """The number of the run that last asked for it."""
    synced_at: datetime = BEGINNING
    """When the run began that last read it."""
    rescanned_at: datetime = BEGINNING
    """When every page was last read from end to end."""
    first_page: str = ""
    """The fingerprint of its first page, when it was last read to where it had to be; of a missing
    one, what the contact list showed of it."""
    missing: bool = False
    """The API had no such conversation, twice."""
    doubtful: bool = False
    """It answered nothing, or far less than was known; asked again before anything is gone."""
    unlisted: bool = False
    """The doubt is that the contact list had no such contact."""
    failed: bool = False
    """The last reading failed: it is not tried before those that have waited longer."""
    ids_repeat: bool = False
    """Its messages have ids that do not tell them apart."""
    has_ids: bool = False
    """Some of its messages have an id of the API's,"""
    lacks_ids: bool = False
    """and some have none."""
    number: str = ""
    """Short for the number of its contact, where that is not the id; see `short`."""
    last_id: str = ""
    """Shorter for the id of its newest message; empty where that is not the one of `newest`."""
    next_page: int = 0
    """Of a conversation that is read in parts, oldest first: the page to go on with."""

    def who(self, contact_id: str) -> str:
        """The same for one number, whatever id its contact has."""
        return self.number or short(contact_id)

    @property
    def is_read(self) -> bool:
        """Whether it says what the conversation holds."""
        return self.scan > 0 or self.missing

    def since(self, lookback: timedelta) -> datetime | None:
        """From where an incremental sync rereads; None is from the beginning."""
        try:
            return None if self.newest is None else self.newest - lookback
        except OverflowError:
            return None
