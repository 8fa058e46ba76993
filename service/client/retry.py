"""When a question is asked again, and when it is given up: a plan, without any input or output.

Both clients of :mod:`service.client.client` follow it. They differ in how they send and how they
wait.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

import httpx

FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 8.0

_LEAST_SECONDS = 0.01  # a wait may last longer than was planned; sockets take no negative time
_PASSING = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one question is pursued.

    Attributes:
        timeout_seconds: For all attempts at it and the waits between them, together.
        retries: How often it is asked again.

    Raises:
        ValueError: The time is not above 0, or the retries are below it.
    """

    timeout_seconds: float = 60.0
    retries: int = 4

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 < self.timeout_seconds < float("inf"):
            raise ValueError("the timeout is a number of seconds above 0")
        if self.retries < 0:
            raise ValueError("the number of retries is 0 or more")


class Reply(NamedTuple):
    """What came back: the HTTP status, the headers (in any case of letters), the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Attempts:
    """The attempts at one question; its time runs from here on.

    Asked again is after 429 and 503, and where no connection was made, so that nothing was sent.
    A connection that broke later may have carried the question to the end: that is not repeated.

    Args:
        patience: How long and how often.
        clock: Seconds that only grow.
        chance: Draws from [0, 1): clients that were refused together shall not come back together.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._end = clock() + patience.timeout_seconds
        self._retries = patience.retries
        self._backoff = FIRST_BACKOFF_SECONDS

    def seconds_left(self) -> float:
        """Return how long an attempt that begins now may take; always above 0."""
        return max(self._end - self._clock(), _LEAST_SECONDS)

    def are_over(self) -> bool:
        """Tell whether the time for all of them has passed."""
        return self._clock() >= self._end

    def pause_after(self, found: Reply | httpx.RequestError) -> float | None:
        """Say what follows an attempt.

        Args:
            found: What came of it.

        Returns:
            Seconds to wait before the next one, never fewer than ``Retry-After`` asks for;
            ``None`` if there is none, because of what was found, or since it would come too often
            or after the time is over.
        """
        if not self._retries or not _may_pass(found):
            return None
        told = retry_after(found.headers) if isinstance(found, Reply) else 0.0
        pause = told + self._backoff * (1 + self._chance()) / 2
        self._retries -= 1
        self._backoff = min(2 * self._backoff, LONGEST_BACKOFF_SECONDS)
        return pause if pause < self.seconds_left() else None


def _may_pass(found: Reply | httpx.RequestError) -> bool:
    if isinstance(found, Reply):
        return found.status in _PASSING
    return isinstance(found, _UNSENT)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float:
    """Return the seconds that ``Retry-After`` asks to wait.

    Args:
        headers: Of a reply, their names in small letters.
        now: The time that a date is counted from; by default this moment.

    Returns:
        At least 0, which is also for a header that is absent, wrong or past.

    >>> retry_after({"retry-after": "120"})
    120.0
    >>> noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
    >>> retry_after({"retry-after": "Fri, 27 Nov 2026 12:00:30 GMT"}, noon)
    30.0
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch("[0-9]{1,18}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
