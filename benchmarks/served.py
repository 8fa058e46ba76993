"""What benchmarks of the service share: its artifacts, its pictures, and processes that serve.

The embedder has the shape of the quickstart recipe's, MobileNetV2 with 512 numbers; the gallery
is that of ``benchmarks/gallery.py``. All of it is made once and kept in a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import MappingProxyType

import gallery
import numpy as np
from cosines import CLEAN_ROWS, DIMENSION, DIRECTIONS, MEASURED, Drawn
from load import tell
from measured import family_of, memory_of
from PIL import Image

from embedder.manifest import read_manifest as read_embedder
from index.gallery.manifest import EmbedderReference, write_manifest
from index.gallery.manifest import read_manifest as read_gallery
from index.gallery.store import Store
from photographs.sample import draw_landmark
from service.resources.cores import available_cores

ROOT = Path(__file__).parents[1]
CORES = 2
PICTURES, SIZE, BYTES = 16, (1600, 1200), range(300_000, 500_001)
_NOISE = 4.0  # of a camera, in gray levels
_START_SECONDS, _STOP_SECONDS = 300, 60
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Served:
    """What is served, and the files that are asked about."""

    embedder: Path
    store: Path
    bodies: tuple[Path, ...]


def parser_of_loads(documentation: str | None) -> argparse.ArgumentParser:
    """Make a parser that takes what every load needs; its help begins with the first line."""
    parser = argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=CLEAN_ROWS, help="of the gallery")
    parser.add_argument("--embedder", type=Path, help="default: quickstart's shape, untrained")
    parser.add_argument("--weights", type=Path, help="safetensors file of its backbone")
    parser.add_argument("--clients", type=int, default=16, help="that ask at the same time")
    parser.add_argument("--out", type=Path, default=Path(".bench/service"))
    return parser


def use_two_cores() -> None:
    """Bind this process, and those it starts, to two cores.

    Raises:
        SystemExit: There are not as many.
    """
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    if available_cores() != CORES:
        raise SystemExit(f"the benchmark needs {CORES} cores, and there are {available_cores()}")


def make(options: argparse.Namespace) -> Served:
    """Make what is not there yet of all that is served."""
    embedder = options.embedder or _make_embedder(options.out / "embedder", options.weights)
    dimension = read_embedder(embedder)[0].dimension
    if dimension != DIMENSION:
        raise SystemExit(f"{embedder} gives {dimension} numbers; the drawn gallery has {DIMENSION}")
    store = options.out / f"rows-{options.rows}"
    if Store(store).current() is None:
        _make_gallery(store, options.rows)
    _name_embedder(store, embedder)
    bodies = tuple(_draw(options.out / "bodies", number) for number in range(PICTURES))
    return Served(embedder, store, bodies)


def _make_embedder(directory: Path, weights: Path | None) -> Path:
    """Export the quickstart recipe's network as it is before its training."""
    if directory.exists():
        return directory
    import torch

    from trainer.export.export import export_backbone
    from trainer.recipe import EmbedderRecipe, load_recipe

    tell("export an embedder")
    recipe = load_recipe(ROOT / "trainer" / "recipes" / "quickstart_mobilenetv2.yaml")
    pretrained = {"pretrained": "required" if weights else "none"}
    untrained = EmbedderRecipe(
        name="untrained",
        network=recipe.network.model_copy(update=pretrained),
        embed=recipe.embed,
    )
    torch.manual_seed(0)
    export_backbone(untrained, directory, weights=weights)
    return directory


def _make_gallery(path: Path, rows: int) -> None:
    tell(f"build a gallery of {rows} rows")
    store = Store(path)
    build_id = store.new_build_id()
    with store.writing(), store.staging(build_id) as staged:
        drawn = Drawn(rows, MEASURED, DIRECTIONS)
        manifest, _ = gallery.build(staged, drawn, "fastscan", gallery.Stopwatch())
        write_manifest(staged, manifest.model_copy(update={"build_id": build_id}))
        store.publish(build_id)


def _name_embedder(store: Path, embedder: Path) -> None:
    """Let the drawn gallery say that it was made by this embedder."""
    manifest, digest = read_embedder(embedder)
    directory = Store(store).directory()
    named = EmbedderReference(
        name=manifest.name, digest=digest, runtime="openvino", precision="f32"
    )
    drawn = read_gallery(directory)
    if drawn.embedder != named:
        write_manifest(directory, drawn.model_copy(update={"embedder": named}))


def _draw(folder: Path, number: int) -> Path:
    """Draw a photograph of the size that phones send, if it is not there yet."""
    path = folder / f"{number:02d}.jpg"
    if not path.exists():
        tell(f"draw {path}")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(draw_landmark(0, number, 0, SIZE[0]).resize(SIZE)).astype(np.float32)
        pixels += np.random.default_rng(number).normal(0, _NOISE, pixels.shape)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        path.write_bytes(next(data for data in _qualities(image) if len(data) in BYTES))
    return path


def _qualities(image: Image.Image) -> Iterator[bytes]:
    for quality in range(60, 99, 2):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        yield buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Process:
    """A program that answers at ``url``, ``ready_seconds`` after its process was started."""

    url: str
    pid: int
    ready_seconds: float

    def cpu_seconds(self) -> float:
        """Return the CPU time that its processes have taken so far."""
        stats = (Path(f"/proc/{process}/stat").read_text() for process in self.processes())
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return sum(int(field[11]) + int(field[12]) for field in fields) / _TICKS

    def memory(self, kind: str = "Pss") -> int:
        """Return the bytes of memory that its processes have, shared ones counted once.

        Args:
            kind: ``Pss`` for all of it, ``Pss_Anon`` without what is a file's.
        """
        return memory_of(self.processes(), kind)

    def processes(self) -> list[int]:
        """Return the process that was started, and those that come of it."""
        return family_of(self.pid)


@contextmanager
def running(
    module: str,
    *flags: object,
    ready: str,
    log: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    python: Path = Path(sys.executable),
) -> Iterator[Process]:
    """Run a program that serves at ``--port``, and stop it at the end.

    Args:
        module: Name of a module, or path of a script.
        flags: Its own.
        ready: Path of the address that answers with 200 once it is ready.
        log: File for all that it prints.
        environment: Variables beside those of this process.
        python: The interpreter.
    """
    port = _free_port()
    program = [module] if module.endswith(".py") else ["-m", module]
    command = [str(python), *program, *map(str, flags), "--port", str(port)]
    url, started = f"http://127.0.0.1:{port}", time.monotonic()
    tell(f"start {module}")
    with (
        log.open("w") as sink,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=sink,
            stderr=sink,
            env=os.environ | environment,
            start_new_session=True,
        ) as process,
    ):
        try:
            while not _answers(port, ready):
                if process.poll() is not None or time.monotonic() - started > _START_SECONDS:
                    raise SystemExit(f"{module} did not start; see {log}")
                time.sleep(0.01)
            yield Process(url, process.pid, time.monotonic() - started)
        finally:
            _stop(process)


@contextmanager
def serving(served: Served, *flags: object, log: Path) -> Iterator[Process]:
    """Run one ``cairn-serve``."""
    artifacts = ("--store", served.store.resolve(), "--embedder", served.embedder.resolve())
    with running("service", *artifacts, *flags, ready="/readyz", log=log) as process:
        yield process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # some servers leave processes behind


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _answers(port: int, path: str) -> bool:
    link = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        link.request("GET", path)
        return link.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        link.close()


def forget_files(paths: Sequence[Path]) -> None:
    """Let the system forget what it has read of files, as after a start of the machine."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
