"""What a run brings, looked at before there is a load package to put it in."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from flowiq_source.reading.run import Run

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """What comes, and stays until it is taken."""

    def __init__(self, coming: Iterator[_T]) -> None:
        self._coming, self._seen = coming, deque[_T]()

    def look(self) -> Iterator[_T]:
        """What comes."""
        for one in self._coming:
            self._seen.append(one)
            yield one

    def take(self) -> Iterator[_T]:
        """What was looked at, and then what comes."""
        while self._seen:
            yield self._seen.popleft()
        yield from self._coming


class Ahead:
    """A run that is looked at before it is loaded."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.is_full: Callable[[], bool] = lambda: False
        """Whether the load package is, once there is one."""
        self.contacts = Kept(run.contacts())
        self.conversations = Kept(run.conversations(self._is_package_full))

    def _is_package_full(self) -> bool:
        return self.is_full()
