"""What the front process and the others tell each other, besides tasks and their results."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder.artifacts.files import FileRecord
from embedder.runtimes.names import AnyPrecision, Device, UsableDevice
from service.contract.schemas import Ready
from service.resources.cores import Cores
from service.telemetry.logs import LogFormat

FORK = "fork"
"""Name of the request for a new worker; its argument is the threads of that."""

IN_MEMORY = "in memory"
"""Message to a worker: its gallery's files were read, so that a search need not expect the disk."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a fork server opens, and how its workers run it.

    Attributes:
        store: Gallery store.
        embedder: Embedder, or a folder of several.
        build: Id of the build to open; None for the published one.
        device: Where the network runs.
        precision: Numbers the network computes with.
        cores: How the cores are divided among the workers of a CPU; one worker of a GPU has all.
        room_bytes: Memory for the workers and the pictures that they decode.
        batch: Most pictures of a batch; 0 is what suits the device.
        max_bytes: Largest picture, in bytes of its file.
        max_pixels: Largest picture, width × height.
        log_level: Least severe message that is logged.
        log_format: As the setting.
    """

    store: Path
    embedder: Path
    build: str | None
    device: Device
    precision: AnyPrecision
    cores: Cores
    room_bytes: int
    batch: int
    max_bytes: int
    max_pixels: int
    log_level: str
    log_format: LogFormat


@dataclass(frozen=True, slots=True)
class Opened:
    """What a fork server has opened.

    Attributes:
        build: Id of the build.
        directory: Its files.
        files: By name, what they must be.
        device: Where the network will run.
        workers: Most that there are to be.
        batch: Most pictures of a batch.
        batches: Batches that each worker works on at a time.
    """

    build: str
    directory: Path
    files: Mapping[str, FileRecord]
    device: UsableDevice
    workers: int
    batch: int
    batches: int


@dataclass(frozen=True, slots=True)
class Started:
    """What a worker says when it is ready.

    Attributes:
        process: Its process id.
        ready: What it is ready with.
        own_bytes: Memory that it shares with no other process.
    """

    process: int
    ready: Ready
    own_bytes: int


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the stages of a batch took, in seconds.

    Attributes:
        decode: Of each task, in order, well or not.
        network: Of all tasks together.
        search: Of each task; those that are searched for together share the time.
    """

    decode: tuple[float, ...]
    network: float
    search: tuple[float, ...]
