"""Hostile clients beside others: what they cost these, and how soon all is well again.

    python benchmarks/attacks.py [--rows 20000] [--seconds 10] [--attacks endless_header …]

Each attack of ``benchmarks/attackers.py`` comes from one address and from a process of its own,
which takes the cores only where the service leaves them. Meanwhile others send ``--rate`` requests
a second at random times. The last line is JSON: for each attack the ``normal_p99_ms`` of the others
before it, the ``attacked_p99_ms`` during it, ``failed``, how many of their requests were refused,
and ``calm_s``, the time from its end until requests take no longer than before. The exit code is 1
if the others' p99 more than doubled, one of their requests failed, or calm took more than 5
seconds; ``broken`` names these attacks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import load
import served
from attackers import ATTACKS, attacking
from load import tell

TIMES = 2
CALM_SECONDS = 5.0
_SETTLE_SECONDS = 1.0  # until an attack is in full swing
_PROBES = 3  # requests in a row that must be quick


def calm_after(service: served.Process, asked: Sequence[bytes], calm_ms: float) -> float:
    """Ask one picture after the other until answers are as quick as before; return the seconds."""
    ended = time.monotonic()
    while (since := time.monotonic() - ended) < 10 * CALM_SECONDS:
        replies = load.one_by_one(service.url, asked, _PROBES)
        if all(reply.status == 200 and 1e3 * reply.seconds <= calm_ms for reply in replies):
            return since
    return float("inf")


def measure(
    service: served.Process, asked: Sequence[bytes], name: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Attack once; return the figures of the others, before, during and after it."""
    times = load.by_chance(options.rate, options.seconds)
    before = load.send_at(service.url, asked, times)
    if any(reply.status != 200 for reply in before):
        raise SystemExit("others are refused without any attack: lower --rate")
    normal = load.percentile_ms(before, 0.99)
    seconds = options.seconds + 2 * _SETTLE_SECONDS
    with attacking(name, service.url, seconds, nice=19) as became:
        time.sleep(_SETTLE_SECONDS)
        replies = load.send_at(service.url, asked, times)
    calm = calm_after(service, asked, TIMES * normal)
    figures = {
        "name": name,
        "normal_p99_ms": normal,
        "attacked_p99_ms": load.percentile_ms(replies, 0.99),
        "failed": sum(reply.status != 200 for reply in replies),
        "calm_s": round(calm, 2),
    }
    tell(f"{figures}; its connections became {dict(became)}")
    return figures


def is_borne(figures: dict[str, Any]) -> bool:
    """Tell whether others hardly noticed an attack."""
    is_quick = figures["attacked_p99_ms"] <= TIMES * figures["normal_p99_ms"]
    return is_quick and figures["calm_s"] <= CALM_SECONDS and not figures["failed"]


def main() -> int:
    """Measure, print the figures, and return the exit code."""
    parser = served.parser_of_loads(__doc__)
    parser.set_defaults(rows=20_000)
    parser.add_argument("--seconds", type=float, default=10, help="of each attack")
    parser.add_argument("--rate", type=float, default=15, help="requests a second of others")
    parser.add_argument("--attacks", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    options = parser.parse_args()
    load.allow_many_links()
    served.use_two_cores()
    made = served.make(options)
    with served.serving(made, log=options.out / "attacks.log") as service:
        asked = load.requests(service.url, made.bodies)
        load.one_by_one(service.url, asked, 100)
        found = [measure(service, asked, name, options) for name in options.attacks]
    broken = [figures["name"] for figures in found if not is_borne(figures)]
    print(json.dumps({"attacks": found, "broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
