"""The service beside other servers with the same stages inside, in turns in one run, on two cores.

    python benchmarks/peers.py [--rows 1580470] [--weights FILE] [--seconds 20]

mosec and LitServe run two processes, each with all stages in one thread, at the best batch and
wait that were found, in an environment of their own; the plain endpoint is one FastAPI process
around torch and FAISS. Each server is asked by one client, then by ``--clients`` of wrk without a
pause, in ``--rounds`` turns; the medians count. The bound is what two cores could do if they did
nothing but the stages. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import load
import served
from load import tell
from peer_stages import EMBEDDER, STORE
from served import CORES, Process, Served
from throughput import PLAIN, STAGE_SECONDS, WARM_SECONDS, measure_stages, refuse_failures

_HERE = Path(__file__).parent
_BOUNDARY = "cairn-peers"
_FORM = f"multipart/form-data; boundary={_BOUNDARY}"
_ALONE = 60
_IDLE = 0.5  # seconds of CPU in a second; LitServe never rests altogether


@dataclass(frozen=True, slots=True)
class Server:
    """One of the servers that are compared: how it is started, and what it is asked with."""

    name: str
    started: AbstractContextManager[Process]
    bodies: tuple[Path, ...]
    kind: str = load.JPEG


def servers(made: Served, options: argparse.Namespace) -> Iterator[Server]:
    """Yield the servers, none of them started yet."""
    artifacts = ("--store", made.store.resolve(), "--embedder", made.embedder.resolve())
    log = {name: options.out / f"{name}.log" for name in ("cairn", "mosec", "litserve", "plain")}
    environment = {
        EMBEDDER: str(made.embedder.resolve()),
        STORE: str(made.store.resolve()),
        "PYTHONPATH": str(served.ROOT),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    yield Server("cairn", served.serving(made, log=log["cairn"]), made.bodies)
    of_peers = {"environment": environment, "python": options.peers / "bin" / "python"}
    script = str(_HERE / "peer_mosec.py")
    mosec = served.running(script, ready="/", log=log["mosec"], **of_peers)
    yield Server("mosec", mosec, made.bodies)
    script = str(_HERE / "peer_litserve.py")
    litserve = served.running(script, ready="/health", log=log["litserve"], **of_peers)
    yield Server("litserve", litserve, tuple(forms(made.bodies, options.out / "forms")), _FORM)
    plain = served.running(str(PLAIN), *artifacts, ready="/openapi.json", log=log["plain"])
    yield Server("plain", plain, made.bodies)


def forms(bodies: tuple[Path, ...], folder: Path) -> Iterator[Path]:
    """Write each body as a form with one file."""
    folder.mkdir(parents=True, exist_ok=True)
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    for body in bodies:
        path = folder / body.name
        data = body.read_bytes()
        path.write_bytes(
            head.encode()
            + b"Content-Type: image/jpeg\r\n\r\n"
            + data
            + f"\r\n--{_BOUNDARY}--\r\n".encode()
        )
        yield path


def measure(server: Server, options: argparse.Namespace) -> dict[str, float]:
    """Start one server, ask it by one client and by many, and stop it."""
    with server.started as process:
        asked = load.requests(process.url, server.bodies, server.kind)
        load.in_turn(process.url, asked, clients=4, count=4 * len(asked))
        wait_until_idle(process)
        replies = load.one_by_one(process.url, asked, _ALONE)
        refuse_failures(replies)

        def press(seconds: float) -> load.Load:
            clients, kind = options.clients, server.kind
            return load.press(
                process.url, server.bodies, clients=clients, seconds=seconds, kind=kind
            )

        press(WARM_SECONDS)
        before = process.cpu_seconds()
        reached = press(options.seconds)
        used = process.cpu_seconds() - before
        if reached.failed:
            raise SystemExit(f"{server.name}: {reached.failed} requests failed")
        figures = {
            "rps": round(reached.rate, 1),
            "single_ms": load.percentile_ms(replies, 0.5),
            "p99_full_ms": round(reached.p99_ms, 1),
            "cpu_ms": round(1e3 * used / max(1, reached.rate * reached.seconds), 2),
            "memory_mb": round(process.memory("Pss_Anon") / 1e6),
            "load_cpu": reached.cpu_seconds / reached.seconds,
        }
    tell(f"{server.name}: {figures}")
    return figures


def wait_until_idle(process: Process) -> None:
    """Wait for what a server does once after its start, such as checking its files."""
    busy = 1.0
    while busy > _IDLE:
        before = process.cpu_seconds()
        time.sleep(1)
        busy = process.cpu_seconds() - before


def main() -> None:
    """Measure and print the figures."""
    parser = served.parser_of_loads(__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each server")
    parser.add_argument(
        "--peers", type=Path, required=True, help="virtual environment of the peers"
    )
    options = parser.parse_args()
    load.find_wrk()
    served.use_two_cores()
    made = served.make(options)
    turns: dict[str, list[dict[str, float]]] = {}
    bounds = []
    for _ in range(options.rounds):
        for server in servers(made, options):
            turns.setdefault(server.name, []).append(measure(server, options))
        stages_ms = sum(measure_stages(made, STAGE_SECONDS).values())
        free = CORES - turns["cairn"][-1]["load_cpu"]
        bounds.append(free / (stages_ms / 1e3))
    figures = {
        f"{name}_{figure}": statistics.median(turn[figure] for turn in measured)
        for name, measured in turns.items()
        for figure in measured[0]
        if figure != "load_cpu"
    }
    bound = statistics.median(bounds)
    figures |= {
        "bound_rps": round(bound, 1),
        "of_mosec": round(figures["cairn_rps"] / figures["mosec_rps"], 3),
        "of_bound": round(figures["cairn_rps"] / bound, 3),
        "rows": options.rows,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
