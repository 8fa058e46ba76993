"""Tiny real things: drawn pictures, an 8-dimensional embedder, made in milliseconds.

The network of the tiny embedder averages the picture over a coarse grid and turns the cells into
a vector by a fixed random matrix. Its golden vectors are computed here in float64 by numpy, so the
engine that runs the ONNX file is proved against an independent computation.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from embedder.artifacts.arrays import write_npz
from embedder.artifacts.files import record
from embedder.manifest import EmbedderManifest, Member, Preprocess, write_manifest
from embedder.preprocess import PictureLimits, decode, to_array
from index.ranking.calibration import Calibration

GRID = 4


def picture(seed: int, *, side: int = 64) -> Image.Image:
    """Draw a soft random pattern; pictures of neighboring seeds look nothing alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def picture_bytes(seed: int, *, side: int = 64, kind: str = "JPEG") -> bytes:
    """Encode :func:`picture` in the format ``kind``."""
    buffer = io.BytesIO()
    picture(seed, side=side).save(buffer, kind, quality=92)
    return buffer.getvalue()


def view_bytes(landmark: int, view: int, *, side: int = 64) -> bytes:
    """Encode one view of a landmark: its pattern, with a little noise of the view's own."""
    rng = np.random.default_rng((landmark, view))
    pixels = np.asarray(picture(landmark, side=side)).astype(np.int16)
    noisy = (pixels + rng.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def photographs(directory: Path, *, landmarks: int = 5, views: int = 6) -> Path:
    """Write one folder per landmark (``landmark-0`` …), each with ``views`` pictures."""
    for landmark in range(landmarks):
        folder = directory / f"landmark-{landmark}"
        folder.mkdir(parents=True, exist_ok=True)
        for view in range(views):
            (folder / f"picture-{landmark}-{view}.jpg").write_bytes(view_bytes(landmark, view))
    return directory


def calibration(**other: object) -> Calibration:
    """Make a calibration whose answers are as likely right as wrong at 0.5."""
    facts = {
        "slope": 10.0,
        "intercept": -5.0,
        "threshold": 0.6,
        "precision_target": 0.9,
        "precision": 0.92,
        "answered": 0.5,
        "queries": 100,
        "unknown": 30,
        "right": 60,
        "data": "d",
        "build_id": "b",
    }
    return Calibration.model_validate(facts | other)


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar of plain files, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def tiny_embedder(directory: Path, *, dimension: int = 8, side: int = 32, seed: int = 0) -> Path:
    """Write a real embedder artifact for CPUs; another seed gives another embedder."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(seed).standard_normal((3 * GRID * GRID, dimension))
    preprocess = Preprocess(side=side)
    onnx.save(_network(weights.astype(np.float32), side), directory / "model.onnx")
    pictures = [picture_bytes(1000 + number, side=48) for number in range(3)]
    images = [decode(p, limits=PictureLimits(), targets=[preprocess]) for p in pictures]
    inputs = [to_array(image, preprocess) for image in images]
    crops = np.stack(inputs[:2]).astype(np.float16)
    golden = {f"picture_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(pictures)}
    write_npz(
        directory / "golden.npz",
        vectors=reference(np.stack(inputs), weights),
        crops_0=crops,
        crop_vectors_0=reference(crops, weights),
        **golden,
    )
    member = Member(
        name="tiny",
        onnx="model.onnx",
        exported=None,
        dimension=dimension,
        preprocess=preprocess,
    )
    files = {name: record(directory / name) for name in ("model.onnx", "golden.npz")}
    write_manifest(
        directory,
        EmbedderManifest(name="tiny", dimension=dimension, members=(member,), files=files),
    )
    return directory


def reference(inputs: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Compute in float64 what the tiny network gives for ``(n, 3, side, side)`` inputs."""
    n, _, side, _ = inputs.shape
    cell = side // GRID
    cells = inputs.astype(np.float64).reshape(n, 3, GRID, cell, GRID, cell).mean((3, 5))
    rows = cells.reshape(n, -1) @ weights.astype(np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _network(weights: NDArray[np.float32], side: int) -> onnx.ModelProto:
    cell = side // GRID
    nodes = [
        helper.make_node(
            "AveragePool", ["pictures"], ["cells"], kernel_shape=[cell, cell], strides=[cell, cell]
        ),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["rows"]),
        helper.make_node("LpNormalization", ["rows"], ["vectors"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model
