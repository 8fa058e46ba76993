"""The service in a rehearsal: its start, its pages of landmarks, requests, and a new gallery."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.client import OK, HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from load import in_turn, one_by_one, percentile_ms, requests
from measured import own_memory
from rehearsal_stages import Figures, Rehearsal
from served import Process, running

from photographs import open_data

_REQUESTS, _CLIENTS = 1_000, 8
_PAGES, _PAGE_LANDMARKS = 20, 1_000
_SECONDS = 120


def serve(rehearsal: Rehearsal, name: str) -> Figures:
    """Start the service, ask it, and publish another gallery while it is asked."""
    flags = ("--store", rehearsal.store, "--embedder", rehearsal.embedder, "--poll-seconds", 1)
    log = rehearsal.out / "logs" / f"{name}.log"
    queries = open_data(rehearsal.data).queries()
    pictures = [query.path for query in queries[:: max(1, len(queries) // _REQUESTS)]]
    with running("service", *flags, ready="/readyz", log=log) as service:
        pages = _page_times(service.url)
        answers = _ask_all(service.url, pictures)
        memory = own_memory(service.processes()) / 1e9
        reload_seconds, dropped = _reload(rehearsal, service, pictures)
        return {
            "seconds": service.ready_seconds,
            "cpu_s": service.cpu_seconds(),
            "peak_gb": max(memory, own_memory(service.processes()) / 1e9),
            "ready_s": service.ready_seconds,
            "landmarks": pages["total"],
            "landmarks_page_ms": pages["slowest_ms"],
            "search_page_ms": pages["search_ms"],
            **answers,
            "service_gb": memory,
            "reload_s": reload_seconds,
            "dropped": dropped,
        }


def _page_times(url: str) -> dict[str, Any]:
    """Fetch pages from the whole list, and search it; the very first page is not measured."""
    total = _get(url, f"/landmarks?limit={_PAGE_LANDMARKS}")["total"]
    offsets = [total * number // _PAGES for number in range(_PAGES)]
    paths = [f"/landmarks?limit={_PAGE_LANDMARKS}&offset={offset}" for offset in offsets]
    slowest = max(_milliseconds(lambda path=path: _get(url, path)) for path in paths)
    search = max(_milliseconds(lambda: _get(url, "/landmarks?q=velmo")) for _ in range(3))
    return {"total": total, "slowest_ms": slowest, "search_ms": search}


def _ask_all(url: str, pictures: list[Path]) -> dict[str, Any]:
    started = time.monotonic()
    replies = in_turn(url, requests(url, pictures), clients=_CLIENTS, count=_REQUESTS)
    return {
        "requests": len(replies),
        "answered": sum(reply.status == OK for reply in replies),
        "requests_per_s": len(replies) / (time.monotonic() - started),
        "p50_ms": percentile_ms(replies, 0.5),
        "p99_ms": percentile_ms(replies, 0.99),
    }


def _reload(rehearsal: Rehearsal, service: Process, pictures: list[Path]) -> tuple[float, int]:
    """Publish another gallery while requests go on; return how soon it serves, and what failed."""
    over, failed = threading.Event(), [0]
    asked = requests(service.url, pictures[:_CLIENTS])

    def ask() -> None:
        while not over.is_set():
            replies = one_by_one(service.url, asked, len(asked))
            failed[0] += sum(reply.status != OK for reply in replies)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        lines = (rehearsal.data / "train_clean.csv").read_text(encoding="utf-8").splitlines()
        removed = rehearsal.index(
            "remove while serving", "remove", "--landmarks", lines[2].partition(",")[0]
        )
        wanted, started = removed.result["build_id"], time.monotonic()
        while _get(service.url, "/readyz")["gallery"] != wanted:
            if time.monotonic() - started > _SECONDS:
                raise SystemExit(f"the service does not take up {wanted}")
            time.sleep(0.02)
        return time.monotonic() - started, failed[0]
    finally:
        over.set()
        asking.join()


def _get(url: str, path: str) -> dict[str, Any]:
    link = HTTPConnection(urlsplit(url).netloc, timeout=_SECONDS)
    try:
        link.request("GET", path)
        answer: dict[str, Any] = json.loads(link.getresponse().read())
    finally:
        link.close()
    return answer


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return 1000 * (time.monotonic() - started)
