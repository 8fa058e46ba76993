"""Check all that runs on an NVIDIA GPU, in at most eight minutes.

    python benchmarks/gpu_check.py [--out FOLDER]

A set is drawn; ResNet-50 is trained on it in bfloat16, beside the rate of its backbone alone; it is
exported, and ``model.pt2`` runs against its golden vectors; a gallery is built and evaluated;
1.58 and 4.13 million vectors are searched exactly through FAISS and through torch; the service
answers. All but the backbone's rate and the searches are commands of Cairn. The last line is JSON:
``ok``, what each part found, and which wheels are missing. The exit code is 69 where there is no
GPU, and 1 where something is not as it must be. A part that would begin after ``--seconds`` is left
out and named.

``--device cpu`` runs every part in miniature, to prove this script where there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measured
from commands import ROOT
from load import tell

from embedder.embedder import GOLDEN_COSINE

NO_GPU = 69
"""Exit code where there is no GPU that torch can use: EX_UNAVAILABLE of sysexits.h."""

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the parts are.

    Attributes:
        scale: Of the set that is drawn, beside Google Landmarks v2.
        backbone: What is trained.
        side: Of its pictures.
        batch: Of its steps.
        steps: How many.
        workers: Processes that decode.
        rows: Of the galleries that are searched.
        dimension: Of their vectors.
        requests: To the service.
    """

    scale: float = 0.02
    backbone: str = "resnet50"
    side: int = 224
    batch: int = 256
    steps: int = 100
    workers: int = 14
    rows: tuple[int, ...] = (1_580_470, 4_132_914)
    dimension: int = 512
    requests: int = 1_000


MINIATURE = Sizes(
    scale=0.001,
    backbone="resnet10t",
    side=32,
    batch=16,
    steps=4,
    workers=0,
    rows=(2_000,),
    dimension=32,
    requests=20,
)


@dataclass
class GpuCheck:
    """One run of the check.

    Attributes:
        out: Its folder.
        device: ``cuda``, or ``cpu`` in miniature.
        sizes: How large the parts are.
        found: What each part found, by its name.
    """

    out: Path
    device: str
    sizes: Sizes
    found: dict[str, Found] = field(default_factory=dict)

    def command(self, name: str, *words: object) -> measured.Ended:
        """Run a command of Cairn."""
        return measured.run(("-m", *words), self.out / f"{name}.log")

    def path(self, name: str) -> Path:
        """Return a path below the folder."""
        return self.out / name


def machine(check: GpuCheck) -> Found:
    """Name the GPU and the libraries, and the wheels that are missing."""
    import torch
    from gpu_search import faiss_has_gpus

    told: Found = {"torch": torch.__version__, "cuda": torch.version.cuda}
    for wheel in ("faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu13-cuvs", "faiss-cpu"):
        try:
            told[wheel] = importlib.metadata.version(wheel)
        except importlib.metadata.PackageNotFoundError:
            continue
    if check.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        told |= {"gpu": properties.name, "gpus": torch.cuda.device_count()}
        told |= {"memory_gb": round(properties.total_memory / 1e9, 1)}
    told["missing"] = [] if faiss_has_gpus() else ["faiss-gpu (the extra service-gpu)"]
    return told


def train(check: GpuCheck) -> Found:
    """Train, and compare the rate of the steps with that of the backbone alone."""
    sizes, data = check.sizes, check.path("data")
    check.command("draw", "trainer", "draw", "--gldv2", "--scale", sizes.scale, "--out", data)
    settings = {
        "network.backbone": sizes.backbone,
        "network.neck.dimension": sizes.dimension,
        "stages.0.side": sizes.side,
        "stages.0.batch_size": sizes.batch,
        "stages.0.steps": sizes.steps,
        "embed.side": sizes.side,
        "data.workers": sizes.workers,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    recipe, run = ROOT / "benchmarks" / "rehearsal.yaml", check.path("run")
    where = ("--recipe", recipe, "--data", data, "--out", run)
    check.command("train", "trainer", "train", *where, *words)
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    epoch = report["epochs"][-1]
    pictures = sizes.steps * sizes.batch
    rate = pictures / epoch["seconds_computing"]
    backbone = _backbone_rate(sizes, check.device)
    return {
        "device": report["device"],
        "precision": report["precision"],
        "pictures_per_s": round(rate, 1),
        "loading_s": epoch["seconds_loading"],
        "backbone_per_s": round(backbone, 1),
        "of_backbone": round(rate / backbone, 3),
        "ok": report["device"] == check.device,
    }


def _backbone_rate(sizes: Sizes, device: str) -> float:
    """Return how many pictures the backbone alone learns in a second, in bfloat16."""
    import timm
    import torch

    network = timm.create_model(sizes.backbone, num_classes=0).to(device).train()
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), fused=device == "cuda")
    pictures = torch.randn(sizes.batch, 3, sizes.side, sizes.side, device=device)
    pictures = pictures.to(memory_format=torch.channels_last)
    for number in range(sizes.steps // 2):
        if number == sizes.steps // 4:  # what came before was for warming up
            _wait(device)
            started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            loss = network(pictures).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    _wait(device)
    steps = sizes.steps // 2 - sizes.steps // 4
    return steps * sizes.batch / (time.perf_counter() - started)


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def network(check: GpuCheck) -> Found:
    """Export, and run the exported network against its golden vectors in each precision."""
    import numpy as np

    from embedder.embedder import Embedder

    folder = check.path("embedder")
    check.command("export", "trainer", "export", check.path("run"), "--out", folder)
    told: Found = {}
    for precision, least in GOLDEN_COSINE.items():
        if check.device == "cpu" and precision == "bf16":
            continue  # not every processor has it
        embedder = Embedder.load(folder, device=check.device, precision=precision)  # type: ignore[arg-type]  # one of its words
        inputs = [(np.zeros((3, check.sizes.side, check.sizes.side), np.float32),)] * 64
        embedder.embed(inputs)
        started = time.perf_counter()
        for _ in range(10):
            embedder.embed(inputs)
        rate = 640 / (time.perf_counter() - started)
        cosine = embedder.golden_cosine(folder)
        told[precision] = {"golden_cosine": cosine, "pictures_per_s": round(rate, 1)}
        told["ok"] = told.get("ok", True) and cosine >= least
        embedder.close()
    return told


def gallery(check: GpuCheck) -> Found:
    """Build and evaluate a gallery."""
    where = ("--store", check.path("store"), "--embedder", check.path("embedder"))
    words = (*where, "--data", check.path("data"), "--device", check.device)
    built = check.command("build", "index", "build", *words)
    evaluated = check.command("evaluate", "index", "evaluate", *words)
    rows = built.result["rows"]
    return {
        "rows": rows,
        "kind": built.result["kind"],
        "pictures_per_s": round(rows / built.usage.seconds, 1),
        "gap": evaluated.result["gap"],
        "ok": rows > 0 and evaluated.result["unreadable"] == 0,
    }


def search(check: GpuCheck) -> Found:
    """Search galleries of the real sizes exactly, through FAISS and through torch."""
    from gpu_search import compare

    dimension, told = check.sizes.dimension, Found(ok=True)
    for rows in check.sizes.rows:
        told[str(rows)] = engines = compare(check.out, rows, dimension, check.device)
        asked = [engine for engine in engines.values() if engine]
        told["ok"] = told["ok"] and bool(asked) and all(e["right"] == 1 for e in asked)
    return told


def service(check: GpuCheck) -> Found:
    """Serve the gallery, and ask it."""
    from http.client import OK

    from load import in_turn, percentile_ms, requests
    from served import running

    flags = ("--store", check.path("store"), "--embedder", check.path("embedder"))
    pictures = sorted(check.path("data").glob("test/*/*/*/*.jpg"))[:16]
    log, count = check.path("service.log"), check.sizes.requests
    with running("service", *flags, "--device", check.device, ready="/readyz", log=log) as process:
        started = time.monotonic()
        replies = in_turn(process.url, requests(process.url, pictures), clients=16, count=count)
        seconds = time.monotonic() - started
    answered = sum(reply.status == OK for reply in replies)
    return {
        "ready_s": round(process.ready_seconds, 2),
        "requests_per_s": round(count / seconds, 1),
        "p50_ms": percentile_ms(replies, 0.5),
        "p99_ms": percentile_ms(replies, 0.99),
        "answered": answered,
        "ok": answered == count,
    }


PARTS: tuple[Callable[[GpuCheck], Found], ...] = (
    machine,
    train,
    network,
    gallery,
    search,
    service,
)


def run_parts(check: GpuCheck, seconds: float) -> Found:
    """Run the parts while there is time; one that fails does not end the others."""
    started, left_out, failed = time.monotonic(), [], {}
    for part in PARTS:
        name = part.__name__
        if time.monotonic() - started > seconds:
            left_out.append(name)
            continue
        tell(name)
        try:
            check.found[name] = part(check)
        except (Exception, SystemExit) as error:  # told, and not hidden
            failed[name] = f"{type(error).__name__}: {error}"[:500]
            tell(f"{name} failed: {failed[name]}")
    ok = not failed and not left_out and all(f.get("ok", True) for f in check.found.values())
    took = round(time.monotonic() - started, 1)
    return {"ok": ok, "seconds": took, "left_out": left_out, "failed": failed, **check.found}


def main() -> int:
    """Run the check and print what it found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(".bench/gpu"))
    parser.add_argument("--seconds", type=float, default=420.0, help="no part begins later")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    if options.device == "cuda":
        from embedder.errors import DeviceError
        from embedder.runtimes.devices import resolve_device

        try:
            resolve_device("cuda")
        except DeviceError as error:
            print(f"gpu-check: {error}", file=sys.stderr)
            return NO_GPU
    options.out.mkdir(parents=True, exist_ok=True)
    sizes = Sizes() if options.device == "cuda" else MINIATURE
    found = run_parts(GpuCheck(options.out.resolve(), options.device, sizes), options.seconds)
    print(json.dumps(found))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
