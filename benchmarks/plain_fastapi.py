"""What one would write without Cairn: a FastAPI endpoint around torch and faiss.IndexFlatIP.

    python benchmarks/plain_fastapi.py --embedder DIR --store DIR --port N

The same network, as torch runs it in float32, the same vectors, and the same answer. The picture
is decoded whole; each request is answered by itself in Starlette's pool of threads.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

from embedder.manifest import read_manifest
from index.gallery.gallery import Gallery

_BLOCK = 1 << 16

Answer = dict[str, str | float]


def open_recognizer(embedder: Path, store: Path) -> Callable[[bytes], Answer]:
    """Load the network and the vectors; return what answers one picture."""
    [member] = read_manifest(embedder)[0].members
    if member.exported is None:
        raise SystemExit(f"{embedder} holds no network that torch runs")
    network = torch.export.load(embedder / member.exported).module()
    shape = member.preprocess
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (shape.mean, shape.std))
    gallery = Gallery.open(store, embedder_digest=None)
    index = faiss.IndexFlatIP(gallery.manifest.dimension)
    for start in range(0, len(gallery), _BLOCK):
        index.add(gallery.vectors(np.arange(start, min(start + _BLOCK, len(gallery)))))
    catalog = gallery.catalog

    def recognize(data: bytes) -> Answer:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        image = image.resize((shape.side, shape.side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            vector = network(((pixels - mean) / std)[None])
        similarities, rows = index.search(vector.numpy(), 1)
        landmark = int(catalog.landmarks[rows[0, 0]])
        return {
            "landmark_id": catalog.landmark_id(landmark),
            "name": catalog.name(landmark),
            "confidence": float(similarities[0, 0]),
        }

    return recognize


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--embedder", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    recognize = open_recognizer(options.embedder, options.store)
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> Answer:
        return await run_in_threadpool(recognize, await request.body())

    uvicorn.run(app, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
