"""How many requests an account has left at a time, worked out from what its answers said.

The API does not say whether it keeps windows, a sliding minute or a bucket. Three things tell:

- A window gives everything at its reset and nothing before. Until a reset has been seen to move
  early, or to pass and give little, that is what is assumed.
- What gives its requests back little by little gives back the fewest where it is a sliding minute:
  those sent a minute ago. No more is reckoned with, at no more than the even rate.
- The latest answer counts everything that reached the API before it. What is in flight may not be
  among that, so all of it is taken off.

Half of a minute's requests may go at once, because a small account wants no more. The rest is
spread over the time to the reset, so that another program finds some at any moment, and what it
takes shows in the next answer.
"""

import math
from collections import deque
from itertools import takewhile
from typing import NamedTuple

from flowiq_source.api.waits import Quota

BURST = 1.5
"""How many minutes' requests may be sent at once, if the headers say that they are there."""

RESERVE = 2
"""Of 100 requests, those that stay unspent: with none left, one that is late is refused."""

MOST_RESERVE = 6
"""How many they become: one more for each refusal, because then somebody else is faster."""

OTHERS = 2
"""How many more, once another program has shown."""

_AT_ONCE = 0.5
"""Up to which part of a minute's requests are spread; the others go at once."""
_SPREAD_S = 30.0
"""In how many seconds a bucket's surplus goes, beside what flows in."""
_MARGIN_S = 4.0
"""How far two readings of one reset may be apart: whole seconds, and answers on their way."""
_OLD_S = 5.0
"""After so long, others may have used some of what an answer said."""
_POLL_S = 0.3
"""How often to look again while an answer may come."""
_SLACK_S = 1.0
"""How much a late thread may catch up."""
_SHORTEST_S = 0.001
_MINUTE_S = 60.0
_REMEMBERED = 5000


class _Seen(NamedTuple):
    """What an answer said; all times are on our clock."""

    left: float
    reset_at: float
    came_at: float
    counted_at: float
    """When the API counted the request: about half-way."""
    reset: str


class Allowance:
    """What the API's answers say of the account; `rate` is what the user allows, a minute.

    Every `now` is in seconds, of a clock that only goes forward.
    """

    def __init__(self, rate: float, share: float, now: float) -> None:
        self._limit_number = 0
        self.allow(rate, share)
        self._level, self._level_at = self._most, now
        self._slot = self._due_at = -math.inf
        self._slack_s = 0.0
        self._in_flight: dict[int, float] = {}
        self._sent: deque[float] = deque(maxlen=_REMEMBERED)
        self._seen: _Seen | None = None
        self._anchor: _Seen | None = None
        self._trickles = False
        self._others = False
        self._window_left, self._window_ours = 0.0, 0
        self._way_s = 0.0
        self._reserve = RESERVE

    def allow(self, rate: float, share: float) -> None:
        """Have the user's own bounds from now on."""
        self._rate_s, self._share = max(1.0, rate) / _MINUTE_S, share
        self._most = BURST * self._rate_s * _MINUTE_S
        if not self._limit_number:
            # No answer has said yet what it is.
            self._limit = rate / share

    def wait_s(self, now: float) -> float:
        """Seconds until it is worth asking again; 0 when a request may be sent."""
        if self._seen and now > max(self._seen.reset_at, self._seen.came_at) + _MINUTE_S:
            self._seen = None
        self._level = min(self._most, self._level + (now - self._level_at) * self._rate_s)
        self._level_at = now
        if self._level < 1:
            return max(_SHORTEST_S, (1 - self._level) / self._rate_s)
        room = self._room(now)
        self._due_at = self._turn(room, now)
        wait_s = self._until_room(room, now) if room < 1 else self._due_at - now
        if wait_s <= 0:
            return 0.0
        # An answer may change everything.
        return max(_SHORTEST_S, min(wait_s, _POLL_S) if self._in_flight else wait_s)

    def send(self, number: int, now: float) -> None:
        """Take one; `wait_s` was 0 at this moment."""
        self._slot = max(self._due_at, now - self._slack_s)
        self._level -= 1
        self._in_flight[number] = now
        self._sent.append(now)
        self._forget_sent(now)

    def answered(self, number: int, quota: Quota, now: float) -> None:
        """Take over what an answer says; it may come before an older one's."""
        sent_at = self._in_flight.pop(number, now)
        if not self._slack_s:
            # Before anything is known, one alone finds out what an earlier run has left.
            self._slack_s, self._slot = _SLACK_S, self._slot - _SLACK_S
        if quota.per_minute and number >= self._limit_number:
            self._limit, self._limit_number = quota.per_minute, number
        if quota.left is None:
            # It may have been counted, and nothing in flight says so any longer.
            self._seen = self._seen and self._seen._replace(left=self._seen.left - 1)
            return
        self._way_s += (now - sent_at - self._way_s) / 8
        seen = _Seen(
            min(quota.left, BURST * self._limit),
            now + (quota.reset_s or 0.0),
            now,
            (now + sent_at) / 2,
            quota.reset,
        )
        self._infer(sent_at, seen)
        self._take_over(sent_at, seen)

    def refused(self, quota: Quota, until: float, now: float, *, again: bool) -> None:
        """Take nothing before; `again` if the request was sent after an earlier such wait.

        An answer that says nothing else leaves nothing to go by but the even rate.
        """
        self._trickles, self._anchor = False, None
        self._reserve = min(MOST_RESERVE, self._reserve + again)
        self._seen = None if quota.left is None else _Seen(0, until, now, now, "")

    def headroom(self) -> tuple[float, float | None]:
        """Requests a minute, and how many the API has left as far as is known."""
        left = self._seen and max(0.0, self._seen.left - len(self._in_flight))
        return self._per_s() * _MINUTE_S, left

    def _per_s(self) -> float:
        """The even rate."""
        return min(self._rate_s, max(1.0, self._limit * self._share) / _MINUTE_S)

    def _room(self, now: float) -> float:
        """How many may be sent, as far as is known."""
        seen = self._seen
        if seen is None:
            return 1.0
        unspent = seen.left - len(self._in_flight)
        left = min(unspent - self._kept(seen, now), self._ours(seen, unspent, now))
        if left < 1 and self._gives(seen, now):
            left = min(1.0, left + self._given(seen, now))
        if now >= seen.reset_at > seen.came_at and not self._in_flight:
            left = max(left, 1.0)
        return left

    def _kept(self, seen: _Seen, now: float) -> float:
        kept = self._reserve + OTHERS * self._others
        if not self._trickles and self._opens_at(seen) <= now and seen.came_at <= seen.reset_at:
            # What is kept would be lost with the window, or opens the next.
            kept -= RESERVE
        if now - seen.came_at > _OLD_S:
            # Somebody else may have used some since.
            kept += RESERVE
        # A lower limit has fewer on their way.
        return kept * self._limit // 100

    def _ours(self, seen: _Seen, unspent: float, now: float) -> float:
        """What is left for us when others get their share: all of it, or what we have not used."""
        if self._share >= 1:
            return unspent
        # Of this window, or of the last minute where there are none.
        until = now if self._gives(seen, now) else max(now, seen.reset_at)
        used = len(self._sent) - self._sent_until(until - _MINUTE_S)
        others = (1 - self._share) * self._limit
        return max(unspent - others, self._share * self._limit - used)

    def _gives(self, seen: _Seen, now: float) -> bool:
        return self._trickles or now >= seen.reset_at

    def _given(self, seen: _Seen, now: float) -> float:
        """What the API has given back since the answer."""
        since = seen.counted_at if self._trickles else max(seen.counted_at, seen.reset_at)
        old = self._sent_until(now - _MINUTE_S) - self._sent_until(since - _MINUTE_S)
        return min(self._per_s() * (now - since), old)

    def _sent_until(self, at: float) -> int:
        return sum(1 for _ in takewhile(lambda sent_at: sent_at <= at, self._sent))

    def _forget_sent(self, now: float) -> None:
        since = min(now, self._seen.counted_at) if self._seen else now
        while self._sent and self._sent[0] <= since - _MINUTE_S:
            self._sent.popleft()

    def _opens_at(self, seen: _Seen) -> float:
        """When to send what should arrive with the reset."""
        return seen.reset_at - (0.0 if self._others else self._way_s)

    def _until_room(self, room: float, now: float) -> float:
        seen = self._seen
        if seen is None or self._gives(seen, now):
            return max(0.1, (1 - room) / self._per_s())
        return max(0.1, self._opens_at(seen) - now)

    def _turn(self, room: float, now: float) -> float:
        """When the next one's turn is, so that they go evenly."""
        seen, even = self._seen, self._per_s()
        if seen is None:
            return self._slot + 1 / even
        if self._share >= 1 and room > _AT_ONCE * self._limit:
            return -math.inf
        room = max(0.001, min(room, self._level))
        if self._gives(seen, now):
            return self._slot + 1 / (even + room / _SPREAD_S)
        return self._slot + max(1.0, seen.reset_at - now - _MARGIN_S) / room

    def _infer(self, sent_at: float, seen: _Seen) -> None:
        """Learn how the API keeps its limit, and whether somebody else uses the account."""
        last, anchor = self._seen, self._anchor
        little = seen.left < self._limit / 2
        if last and last.reset_at <= sent_at < last.reset_at + _MARGIN_S and little:
            self._trickles = True
        if anchor is None or anchor.reset_at - _MARGIN_S - 1 < sent_at:
            self._anchor = seen
        elif sent_at >= anchor.came_at and seen.reset_at > anchor.reset_at + _MARGIN_S:
            self._trickles = True
        self._window_ours += 1
        if last and last.reset == seen.reset and not self._trickles:
            known = self._window_ours + len(self._in_flight) + 1
            self._others = self._others or self._window_left - seen.left > known

    def _take_over(self, sent_at: float, seen: _Seen) -> None:
        """Believe an answer unless an older one is the newer news."""
        last = self._seen
        if last and last.reset == seen.reset and abs(seen.reset_at - last.reset_at) < _MARGIN_S:
            # The answer that was on its way for the shortest time tells the moment best.
            seen = seen._replace(reset_at=min(seen.reset_at, last.reset_at))
        if last is None or self._is_newer(sent_at, seen, last):
            if last is None or last.reset != seen.reset:
                self._window_left, self._window_ours = seen.left, 0
            self._seen = seen

    @staticmethod
    def _is_newer(sent_at: float, seen: _Seen, last: _Seen) -> bool:
        if sent_at >= last.came_at:
            return True
        if abs(seen.reset_at - last.reset_at) > _MARGIN_S:
            return seen.reset_at > last.reset_at
        return seen.left <= last.left
