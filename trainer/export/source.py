"""An existing embedder, and a copy of it whose network is followed by an adapter."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from tqdm import tqdm

from embedder.embedder import Embedder, Prepared
from embedder.errors import ArtifactMissingError, PictureError, TrainingError
from embedder.manifest import GOLDEN, EmbedderManifest, read_manifest
from embedder.preprocess import read_file
from embedder.runtimes.torch_export import load_network
from photographs import Photograph
from trainer.evaluation.embed import GOLDEN_CROPS, prepare_crops
from trainer.export.artifact import Description, refuse_other_files
from trainer.export.network import FinishedNetwork, publish_network
from trainer.model.adapter import LinearAdapter
from trainer.model.inference_module import InferenceModule

_BATCH_SIZE = 32


@dataclass(frozen=True)
class Source:
    """An embedder of one network.

    Attributes:
        folder: Its folder.
        manifest: Its manifest.
        digest: Its digest.
        exported: File of the network for torch.
    """

    folder: Path
    manifest: EmbedderManifest
    digest: str
    exported: str

    @classmethod
    def open(cls, folder: Path, out: Path) -> Self:
        """Open an embedder, of which a copy with an adapter will be written to ``out``.

        Raises:
            ArtifactError: The embedder cannot be used, or has no network for torch.
            TrainingError: It has several networks, or ``out`` holds other files.
        """
        refuse_other_files(out)
        manifest, digest = read_manifest(folder)
        exported = manifest.members[0].exported
        if len(manifest.members) > 1:
            raise TrainingError(f"{folder} joins several networks; change them one by one first")
        if exported is None:
            raise ArtifactMissingError(folder / "model.pt2")
        return cls(folder, manifest, digest, exported)

    def embed(
        self, photographs: Sequence[Photograph]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Embed photographs in float32.

        Returns:
            ``(n,)``, the places of those that could be read, ascending; and ``(n, d)`` unit rows.
        """
        places = [np.empty(0, np.int64)]
        rows = [np.empty((0, self.manifest.dimension), np.float32)]
        with (
            closing(Embedder.load(self.folder, precision="f32")) as embedder,
            ThreadPoolExecutor() as pool,
            tqdm(total=len(photographs), unit="picture") as bar,
        ):
            for start in range(0, len(photographs), _BATCH_SIZE):
                batch = photographs[start : start + _BATCH_SIZE]
                prepared = list(pool.map(lambda picture: _prepare(embedder, picture), batch))
                readable = [picture for picture in prepared if picture is not None]
                rows.append(embedder.embed(readable))
                places.append(start + np.flatnonzero([picture is not None for picture in prepared]))
                bar.update(len(batch))
        return np.concatenate(places), np.concatenate(rows)

    def publish_adapted(
        self,
        adapter: LinearAdapter,
        photographs: Sequence[Photograph],
        provenance: Mapping[str, JsonValue],
        out: Path,
    ) -> str:
        """Write a copy whose network is followed by an adapter; return its digest.

        Args:
            adapter: For the vectors of this embedder.
            photographs: The first readable ones give crops for the golden vectors.
            provenance: What is added to that of this embedder.
            out: New, or an embedder to replace.
        """
        member = self.manifest.members[0]
        crops = prepare_crops(photographs, member.preprocess, GOLDEN_CROPS)
        texts = self.manifest.files.keys() - {GOLDEN, member.onnx, self.exported}
        network = load_network(self.folder / self.exported, "cpu")
        finished = FinishedNetwork(
            InferenceModule(network, adapter=adapter),
            member.preprocess,
            crops.astype(np.float16),
            {name: (self.folder / name).read_bytes() for name in sorted(texts)},
        )
        known = {**self.manifest.provenance, **provenance}
        return publish_network(
            out, Description(member.name, known, self.manifest.ranking), finished
        )


def _prepare(embedder: Embedder, photograph: Photograph) -> Prepared | None:
    """Prepare a photograph; None if it is unreadable."""
    try:
        return embedder.prepare(read_file(photograph.path, embedder.limits))
    except PictureError:
        return None
