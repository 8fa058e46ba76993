"""One service process on two cores: against what the machine could do, and a plain endpoint.

    python benchmarks/throughput.py [--rows 1580470] [--weights FILE] [--seconds 30]

`cairn-serve` answers JPEGs of 1600 x 1200 with MobileNetV2 and a fastscan gallery. Sixteen
clients of wrk ask without a pause (on Debian: ``apt-get install wrk``); requests then come at
70 % of the rate that was reached, evenly and by chance; a client asks alone. Service, load
generator and everything else share the two cores.

``bound_rps`` is what would be reached if the cores did nothing else than decode, run the network
and search, each in the batch that takes the least CPU time for a picture, measured alone:
(cores x seconds - CPU time of the load generator) / CPU time of a picture / seconds. The same
clients then ask ``benchmarks/plain_fastapi.py``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import load
import numpy as np
import served
from load import tell
from served import CORES, Served

from embedder.embedder import Embedder
from index.gallery.gallery import Gallery
from service.inference.recognizer import Recognizer

PLAIN = Path(__file__).with_name("plain_fastapi.py")
SHARE = 0.7  # of the throughput, for the open loops
ALONE = 200
WARM_SECONDS, STAGE_SECONDS = 3, 3
BATCHES = (1, 2, 4, 8, 16)


def stages(served: Served, seconds: float) -> dict[str, float]:
    """Measure each stage alone, in this fresh process: CPU milliseconds of a picture."""
    embedder = Embedder.load(served.embedder, threads=1)
    gallery = Gallery.open(served.store, embedder_digest=embedder.digest, threads=1)
    recognizer = Recognizer(embedder, gallery)
    for _ in gallery.read_ahead():
        pass
    data = [path.read_bytes() for path in served.bodies]
    prepared = list(map(embedder.prepare, data))
    decode = cpu_ms(lambda: list(map(embedder.prepare, data)), len(data), seconds)
    vectors = embedder.embed(prepared)
    network, search = {}, {}
    for size in BATCHES:
        embed = partial(embedder.embed, prepared[:size])
        search_batch = partial(recognizer.search, vectors[:size], [None] * size)
        network[size] = cpu_ms(embed, size, seconds / len(BATCHES))
        search[size] = cpu_ms(search_batch, size, seconds / len(BATCHES))
    tell(f"CPU ms of a picture: decode {decode:.2f}, network {network}, search {search}")
    return {"decode": decode, "network": min(network.values()), "search": min(search.values())}


def cpu_ms(work: Callable[[], object], pictures: int, seconds: float) -> float:
    """Return the CPU milliseconds that ``work`` takes for each of its pictures: the median."""
    work()
    taken, ends = [], time.monotonic() + seconds
    while len(taken) < 3 or time.monotonic() < ends:
        before = time.process_time()
        work()
        taken.append((time.process_time() - before) / pictures)
    return float(np.median(taken)) * 1e3


def alone(service: served.Process, asked: list[bytes]) -> dict[str, float]:
    """Ask one picture after the other, the first of all among them."""
    replies = load.one_by_one(service.url, asked, ALONE)
    refuse_failures(replies)
    return {
        "first_ms": load.percentile_ms(replies[:1], 0.5),
        "single_ms": load.percentile_ms(replies[1:], 0.5),
        "single_p99_ms": load.percentile_ms(replies[1:], 0.99),
    }


def refuse_failures(replies: list[load.Reply]) -> None:
    """End the benchmark where a request was not answered: the figures would be of less work."""
    failed = [reply.status for reply in replies if reply.status != 200]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(replies)} requests failed, with {set(failed)}")


def full(
    service: served.Process, made: Served, options: argparse.Namespace
) -> tuple[load.Load, float]:
    """Ask without a pause, after a few seconds that do not count.

    Returns:
        What was reached, and the CPU seconds that the service took for it.
    """
    press = partial(load.press, service.url, made.bodies, clients=options.clients)
    press(seconds=WARM_SECONDS)
    before = service.cpu_seconds()
    reached = press(seconds=options.seconds)
    tell(f"{options.clients} clients: {reached}")
    if reached.failed:
        raise SystemExit(f"{reached.failed} requests failed")
    return reached, service.cpu_seconds() - before


def open_loops(url: str, asked: list[bytes], rate: float, seconds: float) -> dict[str, float]:
    """Ask at a given rate, at equal distances and by chance."""
    figures = {}
    for name, times in {
        "even": load.evenly(rate, seconds),
        "poisson": load.by_chance(rate, seconds),
    }.items():
        before = time.process_time()
        replies = load.send_at(url, asked, times)
        refuse_failures(replies)
        figures |= {
            f"p50_{name}_ms": load.percentile_ms(replies, 0.5),
            f"p99_{name}_ms": load.percentile_ms(replies, 0.99),
            f"late_{name}_ms": round(1e3 * max(reply.late_seconds for reply in replies), 2),
            f"load_cpu_{name}": round((time.process_time() - before) / (CORES * seconds), 3),
        }
        tell(f"{name}: {figures}")
    return figures


def measure_service(
    made: Served, options: argparse.Namespace
) -> tuple[load.Load, dict[str, float]]:
    """Start the service as after a start of the machine, and put it under each load."""
    log = options.out / "service.log"
    served.forget_files([path for path in made.store.rglob("*") if path.is_file()])
    with served.serving(made, log=log) as service:
        cold = service.ready_seconds
        first = load.one_by_one(service.url, load.requests(service.url, made.bodies), 1)
    with served.serving(made, log=log) as service:
        asked = load.requests(service.url, made.bodies)
        figures = {
            "cold_start_s": round(cold, 2),
            "cold_first_ms": load.percentile_ms(first, 0.5),
            "start_s": round(service.ready_seconds, 2),
            **alone(service, asked),
        }
        tell(f"alone: {figures}")
        reached, used = full(service, made, options)
        figures |= {
            "service_cpu_ms": round(1e3 * used / (reached.rate * reached.seconds), 2),
            "idle_cores": round(CORES - (used + reached.cpu_seconds) / reached.seconds, 2),
        }
        figures |= open_loops(service.url, asked, SHARE * reached.rate, options.seconds)
        figures["rss_anon_mb"] = round(service.memory("Pss_Anon") / 1e6)
    return reached, figures


def measure_stages(made: Served, seconds: float) -> dict[str, float]:
    """Measure the stages in a process of their own."""
    command = [sys.executable, __file__, "--stages", str(made.store), str(made.embedder)]
    command += [str(seconds), *map(str, made.bodies)]
    environment = {"OMP_WAIT_POLICY": "passive"} | os.environ  # as the service has it
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    figures: dict[str, float] = json.loads(finished.stdout)
    return figures


def measure_plain(made: Served, options: argparse.Namespace) -> load.Load:
    """Put the plain endpoint under the same load."""
    flags = ("--store", made.store, "--embedder", made.embedder)
    log = options.out / "plain.log"
    with served.running(str(PLAIN), *flags, ready="/openapi.json", log=log) as plain:
        return full(plain, made, options)[0]


def main() -> None:
    """Measure and print the figures, or be the process in which the stages are measured."""
    if sys.argv[1:2] == ["--stages"]:
        store, embedder, seconds, *bodies = sys.argv[2:]
        made = Served(Path(embedder), Path(store), tuple(map(Path, bodies)))
        print(json.dumps(stages(made, float(seconds))))
        return
    parser = served.parser_of_loads(__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of each load")
    options = parser.parse_args()
    load.find_wrk()
    served.use_two_cores()
    made = served.make(options)
    reached, figures = measure_service(made, options)
    milliseconds = measure_stages(made, STAGE_SECONDS)
    plain = measure_plain(made, options)
    free = CORES * reached.seconds - reached.cpu_seconds
    bound = free / (sum(milliseconds.values()) / 1e3) / reached.seconds
    print(
        json.dumps(
            {
                "throughput_rps": round(reached.rate, 1),
                "bound_rps": round(bound, 1),
                "of_bound": round(reached.rate / bound, 3),
                "plain_fastapi_rps": round(plain.rate, 1),
                "times_plain": round(reached.rate / plain.rate, 1),
                **figures,
                "p99_even_of_single": round(figures["p99_even_ms"] / figures["single_ms"], 2),
                "p99_poisson_of_single": round(figures["p99_poisson_ms"] / figures["single_ms"], 2),
                "p99_full_ms": round(reached.p99_ms, 2),
                **{f"{name}_cpu_ms": round(ms, 3) for name, ms in milliseconds.items()},
                "load_cpu_s": round(reached.cpu_seconds, 2),
                "rows": options.rows,
                "clients": options.clients,
                "seconds": round(reached.seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
