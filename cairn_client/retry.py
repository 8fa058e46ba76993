"""When a request is sent again, and when it is given up: decisions only, no input or output.

Not stamina: its switches and hooks belong to the whole process. Where the application calls
``stamina.set_testing``, waits that ``Retry-After`` demands would shrink to 0; each retry would be
logged unless the application's own hooks are replaced; and the wait after ``Retry-After`` and the
bound of all waits would still be computed here.
"""

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
BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}

_LEAST_SECONDS = 0.01  # a sleep may last longer than planned; sockets take no negative timeout
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds for all attempts and waits together, and the number of attempts after the first."""

    timeout_seconds: float = 60.0
    retries: int = 4

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for values out of range."""
        if not 0 < self.timeout_seconds < float("inf"):
            raise ValueError("the timeout is a number of seconds above 0")
        if self.retries < 0:
            raise ValueError("the number of retries is 0 or more")


class Reply(NamedTuple):
    """A response: HTTP status, headers (case-insensitive), whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Attempts:
    """The attempts of one call; its time starts now.

    Retried are 429, 503, and connections that were not made, over which nothing was sent. A
    connection that broke later may have delivered the request: that is not repeated.

    Args:
        policy: Timeout and number of retries.
        clock: Monotonic seconds.
        rng: Draws from [0, 1), so that clients refused together do not return together.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._clock, self._rng = clock, rng
        self._end = clock() + policy.timeout_seconds
        self._retries = policy.retries
        self._backoff = FIRST_BACKOFF_SECONDS

    def seconds_left(self, pause: float = 0.0) -> float:
        """Return the timeout of an attempt that starts after ``pause`` seconds; always above 0."""
        return max(self._end - self._clock() - pause, _LEAST_SECONDS)

    def pause_after(self, found: Reply | httpx.RequestError) -> float | None:
        """Decide what follows an attempt.

        Returns:
            Seconds to wait before the next one, never fewer than ``Retry-After`` asks for;
            ``None`` if there is none: not retried, too many attempts, or the timeout is too short.
        """
        if isinstance(found, Reply):
            retried, asked = found.status in BUSY, retry_after(found.headers)
        else:
            retried, asked = isinstance(found, _UNSENT), 0.0
        return self.pause(asked) if retried else None

    def pause(self, asked: float) -> float | None:
        """Decide how long to wait before another attempt.

        Args:
            asked: Seconds that the service asks for; 0 if it does not.

        Returns:
            As :meth:`pause_after`.
        """
        if not self._retries:
            return None
        pause = asked + self._backoff * (1 + self._rng()) / 2
        self._retries -= 1
        self._backoff = min(2 * self._backoff, LONGEST_BACKOFF_SECONDS)
        return pause if pause < self.seconds_left() else None


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float:
    """Return the seconds that ``Retry-After`` asks to wait; 0 if it is absent, wrong or past.

    Args:
        headers: Their names in lower case.
        now: Time that a date is counted from; by default this moment.

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
