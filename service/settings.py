"""Everything an operator can choose, read once and handed on.

A setting comes from a flag of ``cairn-serve``, else from the environment with the prefix
``CAIRN_``, else from its default. Nothing else of the server looks at the environment. The
command line checks what is given by the annotations here; no pydantic, so that its help is instant.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import Port
from cyclopts.validators import Number

from embedder.command_line import Count, Folder, PositiveCount
from embedder.runtimes.names import AnyPrecision, Device
from service.contract.addresses import AUTO, NONE, parse_hosts, parse_networks
from service.contract.api_keys import OFF, parse_keys

PREFIX = "CAIRN_"

Seconds = Annotated[float, Parameter(validator=Number(gt=0, lt=math.inf), metavar="SECONDS")]


def _check_keys(_type: object, text: str) -> None:
    """Raise ``ValueError`` for what lists no keys."""
    parse_keys(text)


def _check_networks(_type: object, text: str) -> None:
    """Raise ``ValueError`` for what lists no networks."""
    parse_networks(text)


def _check_hosts(_type: object, text: str) -> None:
    """Raise ``ValueError`` for what lists no names."""
    parse_hosts(text)


Keys = Annotated[str, Parameter(validator=_check_keys, metavar="KEYS")]
Networks = Annotated[str, Parameter(validator=_check_networks, metavar="NETWORKS")]
Hosts = Annotated[str, Parameter(validator=_check_hosts, metavar="NAMES")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one service runs with.

    Attributes:
        store: Gallery store, made by ``cairn-index build``.
        embedder: Embedder, made by ``cairn-train export``, or a folder of several.
        host: Address to listen on; 0.0.0.0 is every one this machine has.
        port: Port to listen on; 0 takes a free one.
        management_port: Port for ``/healthz``, ``/readyz``, ``/metrics`` and ``/admin`` alone; 0
            leaves them at the port of all else.
        hosts: Names by which clients may ask, separated by commas, ``*.example.com`` for all below
            one; ``any``; or ``auto``: any, but only local ones where this machine alone can ask.
            Addresses always may.
        trusted_proxies: Addresses or networks, separated by commas, of proxies whose
            ``X-Forwarded-For``, ``-Proto`` and ``-Prefix`` are believed; ``none``.
        device: Where the network runs; ``auto`` is an NVIDIA GPU if there is one.
        precision: Numbers the network computes with; ``auto`` is bf16 where it agrees.
        threads: Cores for decoding, the network and the search together; 0 is all that this
            process may use.
        max_bytes: Largest picture accepted, in bytes of its file.
        max_pixels: Largest picture accepted, width x height. At most as many pictures are decoded
            at once as fit in memory at this size, 21 bytes a pixel.
        held_bytes: Most bytes of pictures in memory, of all requests together.
        batch_pictures: Most pictures of a batch; 0 is 4 on a CPU, which is no faster with more,
            and 16 on a GPU.
        waiting_pictures: Pictures that may wait; one more is refused with 429 or 503.
        deadline_seconds: How long a picture may wait for its answer.
        receive_seconds: How long a client may take to send a request. Of a body 10 KiB must come
            in each 10 seconds.
        keep_alive_seconds: How long a connection without a request stays open; longer than a load
            balancer keeps its own.
        connections: Most connections at a time.
        client_connections: Most connections of one client, that is no trusted proxy, at a time.
        max_pictures: Pictures that one request to ``/predict/batch`` may hold.
        api_keys: Keys that may ask: NAME=sha256:..., separated by commas, or @FILE; ``none``
            lets everyone ask.
        admin_keys: Keys that may order a reload, written likewise; ``none`` is nobody.
        origins: Web origins whose pages may ask, separated by commas; ``none``, or ``*`` for all.
        keep_unsure: Folder to keep pictures in that a calibrated gallery does not know, as they
            were sent (at most 10,000 and 1 GiB), to sort and add them; ``none`` keeps none.
        poll_seconds: How often to look for a new gallery in the store.
        drain_seconds: How long ``/readyz`` says 503 after SIGTERM while requests are still taken,
            so that load balancers look elsewhere.
        stop_seconds: How long requests in flight may take to finish at a stop.
        log_level: Least severe message that is logged.
        log_format: ``auto`` is text on a terminal and JSON elsewhere.
    """

    store: Folder
    embedder: Folder
    host: Annotated[str, Parameter(metavar="ADDRESS")] = "127.0.0.1"
    port: Port = 8000
    management_port: Port = 0
    hosts: Hosts = AUTO
    trusted_proxies: Networks = NONE
    device: Device = "auto"
    precision: AnyPrecision = "auto"
    threads: Count = 0
    max_bytes: PositiveCount = 20 << 20
    max_pixels: PositiveCount = 64_000_000
    held_bytes: PositiveCount = 512 << 20
    batch_pictures: Annotated[int, Parameter(validator=Number(gte=0, lte=256), metavar="N")] = 0
    waiting_pictures: PositiveCount = 64
    deadline_seconds: Seconds = 10.0
    receive_seconds: Seconds = 60.0
    keep_alive_seconds: PositiveCount = 75
    connections: PositiveCount = 1024
    client_connections: PositiveCount = 256
    max_pictures: Annotated[int, Parameter(validator=Number(gte=1, lte=1000), metavar="N")] = 16
    api_keys: Keys = OFF
    admin_keys: Keys = OFF
    origins: Annotated[str, Parameter(metavar="ORIGINS")] = OFF
    keep_unsure: Annotated[str, Parameter(metavar="DIR")] = OFF
    poll_seconds: Seconds = 2.0
    drain_seconds: Annotated[float, Parameter(validator=Number(gte=0, lt=math.inf))] = 5.0
    stop_seconds: PositiveCount = 20
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"


def unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    """Return the variables that look like settings but are none, such as misspelled ones.

    >>> unknown_variables({"CAIRN_PORT": "80", "CAIRN_MAX_BITES": "5", "PATH": "/bin"})
    ['CAIRN_MAX_BITES']
    """
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
    known.add("CAIRN_KEY")  # that of `cairn-serve predict`
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
