"""When a question is asked again: by a clock that stands until a test moves it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import httpx
import pytest

from cairn_client.retry import (
    FIRST_BACKOFF_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    Attempts,
    Reply,
    RetryPolicy,
    retry_after,
)

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
BUSY = Reply(503, {}, b"")


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.seconds


def attempts(seconds: float = 1e6, retries: int = 4, chance: float = 0.0) -> Attempts:
    """Begin to ask, at a time that stands still."""
    return Attempts(RetryPolicy(seconds, retries), clock=Clock(), rng=lambda: chance)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again(status: int) -> None:
    """After a moment."""
    pause = attempts().pause_after(Reply(status, {}, b""))
    assert pause is not None
    assert 0 < pause <= FIRST_BACKOFF_SECONDS


@pytest.mark.parametrize("status", [200, 304, 400, 401, 404, 408, 409, 413, 422, 500, 502, 504])
def test_any_other_reply_is_the_last(status: int) -> None:
    """It would be the same again, or what was asked is being done."""
    assert attempts().pause_after(Reply(status, {"retry-after": "1"}, b"")) is None


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
def test_a_connection_that_was_not_made_is_tried_again(kind: type[httpx.RequestError]) -> None:
    """Nothing was sent over it."""
    assert attempts().pause_after(kind("")) is not None


@pytest.mark.parametrize(
    "kind",
    [
        httpx.ReadError,
        httpx.ReadTimeout,
        httpx.WriteError,
        httpx.WriteTimeout,
        httpx.RemoteProtocolError,
        httpx.DecodingError,
    ],
)
def test_a_connection_that_broke_later_is_not(kind: type[httpx.RequestError]) -> None:
    """The service may have done what was asked."""
    assert attempts().pause_after(kind("")) is None


@pytest.mark.parametrize("retries", [0, 1, 7])
def test_it_is_asked_again_as_often_as_allowed(retries: int) -> None:
    """And not once more."""
    asked = attempts(retries=retries)
    pauses = list(itertools.takewhile(lambda pause: pause, map(asked.pause_after, [BUSY] * 20)))
    assert len(pauses) == retries


def test_pauses_double_up_to_a_bound() -> None:
    """So that a service in trouble is left alone more and more, but not forgotten."""
    asked = attempts(retries=10, chance=1.0)
    pauses = [asked.pause_after(BUSY) for _ in range(10)]
    doubled = [min(FIRST_BACKOFF_SECONDS * 2**n, LONGEST_BACKOFF_SECONDS) for n in range(10)]
    assert pauses == pytest.approx(doubled)
    assert doubled[-1] == LONGEST_BACKOFF_SECONDS


def test_clients_refused_together_do_not_come_back_together() -> None:
    """Chance spreads them over half a pause, also where all were told the same time."""
    for headers in ({}, {"retry-after": "3"}):
        first, last = (
            attempts(chance=chance).pause_after(Reply(503, headers, b"")) for chance in (0.0, 1.0)
        )
        assert first is not None
        assert last is not None
        assert last - first == pytest.approx(FIRST_BACKOFF_SECONDS / 2)


def test_nobody_comes_before_the_time_that_was_told() -> None:
    """The pause of one's own comes after it."""
    pause = attempts().pause_after(Reply(429, {"retry-after": "7"}, b""))
    assert pause is not None
    assert 7 < pause <= 7 + FIRST_BACKOFF_SECONDS


@pytest.mark.parametrize("told", [61, 86400])
def test_a_long_time_is_waited_for_by_whoever_has_it(told: int) -> None:
    """A service that asks for more than a minute is not asked sooner, however long the timeout."""
    reply = Reply(503, {"retry-after": str(told)}, b"")
    pause = attempts(seconds=2 * told).pause_after(reply)
    assert pause is not None
    assert told < pause <= told + FIRST_BACKOFF_SECONDS
    assert attempts(seconds=told).pause_after(reply) is None


def test_a_pause_that_outlasts_the_timeout_is_not_begun() -> None:
    """It is given up at once."""
    asked = attempts(seconds=5)
    assert asked.pause_after(Reply(503, {"retry-after": "5"}, b"")) is None


def test_an_attempt_has_what_the_others_left() -> None:
    """The time is for all of them together."""
    clock = Clock()
    asked = Attempts(RetryPolicy(10), clock=clock)
    assert asked.seconds_left() == 10
    clock.seconds += 9
    assert asked.seconds_left() == pytest.approx(1)
    clock.seconds += 2
    assert asked.seconds_left() > 0
    assert asked.pause_after(BUSY) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        (" 2 ", 2),
        ("Fri, 27 Nov 2026 12:01:30 GMT", 90),
        ("Friday, 27-Nov-26 12:01:30 GMT", 90),
        ("Fri Nov 27 12:01:30 2026", 90),
        ("Fri, 27 Nov 2026 13:01:30 +0100", 90),
        ("Fri, 27 Nov 2026 12:01:30 -0000", 90),
        ("Fri, 27 Nov 2026 11:00:00 GMT", 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("1.5", 0),
        ("nan", 0),
        ("٣", 0),
        ("9" * 5000, 0),
        ("Fri, 99 Nov 2026 12:00:00 GMT", 0),
        ("Fri, 27 Nov 99999 12:00:00 GMT", 0),
        ("Fri, 27 Nov 2026 12:00:00 +99999999999999999999", 0),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, seconds: float) -> None:
    """Seconds, or a date in any form that HTTP knows; anything else asks for nothing."""
    assert retry_after({"retry-after": text}, NOW) == seconds


def test_without_retry_after_nothing_is_asked_for() -> None:
    """The header may be absent."""
    assert retry_after({}, NOW) == 0


def test_a_date_counts_from_now() -> None:
    """Unless another time is given."""
    assert retry_after({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) > 1e6


@pytest.mark.parametrize(
    ("seconds", "retries"), [(0, 1), (-1, 1), (float("inf"), 1), (float("nan"), 1), (1, -1)]
)
def test_patience_that_cannot_be_meant_is_refused(seconds: float, retries: int) -> None:
    """At once, not at the first question."""
    with pytest.raises(ValueError, match=r"timeout|retries"):
        RetryPolicy(seconds, retries)
