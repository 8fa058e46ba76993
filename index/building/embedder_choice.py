"""An embedder that is loaded only if there is a picture to embed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from embedder.embedder import Embedder
from embedder.manifest import read_manifest
from embedder.runtimes.devices import DEVICES
from embedder.runtimes.names import Device, Precision
from index.building.extras import advised_ranking
from index.gallery.manifest import EmbedderReference
from index.ranking.ranking import Ranking

_PRECISIONS: dict[str, Precision] = {"f32": "f32", "bf16": "bf16"}


@dataclass(frozen=True, slots=True)
class LazyEmbedder:
    """An embedder, and how it runs.

    Attributes:
        reference: Its entry in a gallery's manifest.
        dimension: Length of a vector.
        ranking: The ranking that it advises.
        open: Loads it; called at most once.
    """

    reference: EmbedderReference
    dimension: int
    ranking: Ranking
    open: Callable[[], AbstractContextManager[Embedder]]

    @classmethod
    def of(cls, embedder: Embedder) -> LazyEmbedder:
        """Wrap an open embedder, which stays open."""
        reference = EmbedderReference.of(embedder)
        ranking = advised_ranking(embedder.manifest)
        return cls(reference, embedder.dimension, ranking, lambda: nullcontext(embedder))


@dataclass(frozen=True, slots=True)
class EmbedderChoice:
    """An embedder artifact and how to run it.

    Attributes:
        directory: The artifact.
        device: ``auto`` is the device that the published gallery was made on.
        precision: ``auto`` is the precision that the published gallery was made in.
        threads: CPU threads for the network; 0 for one per core.
    """

    directory: Path
    device: Device = "auto"
    precision: Precision | Literal["auto"] = "auto"
    threads: int = 0

    def open(self) -> Embedder:
        """Load the embedder."""
        return Embedder.load(
            self.directory, device=self.device, precision=self.precision, threads=self.threads
        )

    def run_like(self, published: EmbedderReference) -> LazyEmbedder:
        """Run as for the published gallery where no other device or precision was asked for.

        An engine or a precision that is not known here is another one.
        """
        manifest, digest = read_manifest(self.directory)
        device, precision = (
            DEVICES.get(published.runtime),
            _PRECISIONS.get(published.precision),
        )
        same_run = self.device in ("auto", device) and self.precision in ("auto", precision)
        if digest != published.digest or not same_run or device is None or precision is None:
            return LazyEmbedder.of(self.open())
        same, ranking = replace(self, device=device, precision=precision), advised_ranking(manifest)
        return LazyEmbedder(published, manifest.dimension, ranking, lambda: closing(same.open()))
