"""Add a folder to a gallery by the code of before there were segments; print the seconds.

PYTHONPATH=CODE python benchmarks/growth_before.py STORE DATA DIGEST
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from byte_embedder import DIMENSION, ByteEmbedder


def main() -> None:
    """Add."""
    store, data, digest = sys.argv[1:]
    manifest = import_module("index.manifest")
    reference = manifest.EmbedderReference(
        name="drawn", digest=digest, runtime="openvino", precision="f32"
    )
    ranking = import_module("index.ranking").Ranking()
    run = import_module("index.build").Run(
        reference, DIMENSION, ranking, lambda: nullcontext(ByteEmbedder())
    )
    photographs = import_module("embedder.photographs").open_data(Path(data))
    opened = import_module("index.store").Store(Path(store))
    begun = time.monotonic()
    import_module("index.rebuild").add(opened, SimpleNamespace(run_as=lambda _: run), photographs)
    print(time.monotonic() - begun)


if __name__ == "__main__":
    main()
