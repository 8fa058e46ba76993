"""Five times more than the service can do: it must refuse in words, keep time and memory, recover.

    python benchmarks/overload.py [--rows 1580470] [--seconds 60] [--requests 20000]

Sixteen clients first ask ``--requests`` times without a pause, in which memory must stay flat;
that also tells what the service can do. Then requests come at five times that rate for
``--seconds``, whatever is answered, and then single ones until the service is as before. Each
answer must be 200, or 429 or 503 with ``Retry-After``. The last line is JSON; the exit code
is 1 where a promise was broken, and ``broken`` tells which.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import load
import numpy as np
import served
from load import Reply, tell

TIMES = 5
DEADLINE_SECONDS = 10.0
RECOVERY_SECONDS = 2.0
GROWTH = 0.02
ROUNDS = 20
"""Parts of the requests in which memory is watched; the first one warms up."""

_BUSY = (429, 503)
_PROBES = 200
CALM = 3
"""So many times the time of a single request, a service that is not busy may take."""


def soak(service: served.Process, asked: Sequence[bytes], clients: int, count: int) -> list[int]:
    """Ask without a pause; return the memory after the warm-up and after each further part."""
    memory = []
    for number in range(ROUNDS + 1):
        replies = load.in_turn(service.url, asked, clients=clients, count=count // ROUNDS)
        failed = Counter(reply.status for reply in replies if reply.status != 200)
        if failed:
            raise SystemExit(f"requests failed before there was any overload: {failed}")
        memory.append(service.memory())
        tell(f"part {number} of {ROUNDS}: {memory[-1] / 1e6:.1f} MB")
    return memory


def recover(
    service: served.Process, asked: Sequence[bytes], calm_seconds: float, ended: float
) -> float:
    """Ask one picture after the other until answers are quick again.

    Args:
        service: What is asked.
        asked: Requests.
        calm_seconds: What is quick.
        ended: When the last request of the overload was sent.

    Returns:
        The seconds from then to the first quick answer.
    """
    for _ in range(_PROBES):
        since = time.monotonic() - ended
        row = load.one_by_one(service.url, asked, 3)
        if all(reply.status == 200 and reply.seconds <= calm_seconds for reply in row):
            return since
    return float("inf")


def is_in_words(reply: Reply) -> bool:
    """Tell whether a reply is an answer, or a refusal that says when to come again."""
    return reply.status == 200 or (reply.status in _BUSY and reply.may_come_again)


def measure(made: served.Served, options: argparse.Namespace) -> dict[str, Any]:
    """Put a service of its own under all the loads; return what is found."""
    flags = ("--deadline-seconds", DEADLINE_SECONDS)
    with served.serving(made, *flags, log=options.out / "overload.log") as service:
        asked = load.requests(service.url, made.bodies)
        single = load.percentile_ms(load.one_by_one(service.url, asked, 100), 0.5)
        started = time.monotonic()
        memory = soak(service, asked, options.clients, options.requests)
        capacity = len(memory) * (options.requests // ROUNDS) / (time.monotonic() - started)
        tell(f"{capacity:.1f} pictures a second are answered; now {TIMES} times as many come")
        times = load.evenly(TIMES * capacity, options.seconds)
        ends = time.monotonic() + times[-1]
        replies = load.send_at(service.url, asked, times)
        recovered = recover(service, asked, CALM * single / 1e3, ends)
        after = service.memory()
    accepted = [reply for reply in replies if reply.status == 200]
    statuses = Counter(reply.status for reply in replies)
    return {
        "capacity_rps": round(capacity, 1),
        "offered": len(replies),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "not_in_words": sum(not is_in_words(reply) for reply in replies),
        "late_p99_ms": round(1e3 * np.quantile([reply.late_seconds for reply in replies], 0.99), 1),
        "answered_rps": round(len(accepted) / options.seconds, 1),
        "p99_accepted_ms": load.percentile_ms(accepted, 0.99),
        "single_ms": single,
        "recovered_s": round(recovered, 2),
        "rss_mb": round(memory[0] / 1e6, 1),
        "rss_growth": round(memory[-1] / memory[0] - 1, 4),
        "rss_after_overload_mb": round(after / 1e6, 1),
    }


def broken_promises(figures: dict[str, Any]) -> list[str]:
    """Name the promises that were not kept."""
    kept = {
        "answers": figures["not_in_words"] == 0,
        "deadline": figures["p99_accepted_ms"] <= 1e3 * DEADLINE_SECONDS,
        "memory": figures["rss_growth"] <= GROWTH,
        "recovery": figures["recovered_s"] <= RECOVERY_SECONDS,
    }
    return [name for name, is_kept in kept.items() if not is_kept]


def main() -> int:
    """Measure, print the figures, and return the exit code."""
    parser = served.parser_of_loads(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    parser.add_argument("--requests", type=int, default=20_000, help="in which memory is watched")
    options = parser.parse_args()
    load.allow_many_links()
    served.use_two_cores()
    figures = measure(served.make(options), options)
    broken = broken_promises(figures)
    print(json.dumps({**figures, "rows": options.rows, "broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
