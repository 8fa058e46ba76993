"""Open an embedder artifact, check it against its golden vectors, and embed pictures.

An embedder with several members is an ensemble: the members' unit vectors are concatenated and
scaled to length 1 again, so its dimension is the sum of theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.artifacts.arrays import read_npz, unit_rows
from embedder.artifacts.files import check_files
from embedder.errors import ArtifactDamagedError, CairnError, DeviceError, PictureError
from embedder.formats.source import Check
from embedder.manifest import GOLDEN, EmbedderManifest, read_manifest
from embedder.preprocess import PictureLimits, decode, decodes_alike, to_array
from embedder.runtimes.devices import RUNTIMES, can_run_bf16, resolve_device
from embedder.runtimes.names import (
    AnyPrecision,
    Device,
    Precision,
    RuntimeName,
    UsableDevice,
)
from embedder.runtimes.runtime import Runtime, open_runtime
from embedder.thumbnail import make_thumbnail, shrink, thumbnail_target

Prepared = tuple[NDArray[np.float32], ...]
"""One picture, ready for the network: per member ``(3, side, side)``."""

GOLDEN_COSINE: Mapping[Precision, float] = {"f32": 0.9999, "bf16": 0.999}
"""Lowest cosine with the golden vectors, which torch gave in float32, that is accepted."""

_log = logging.getLogger(__name__)


class Embedder:
    """An open embedder; make one with :meth:`load`. Thread-safe.

    Attributes:
        manifest: The manifest of the artifact.
        digest: Its identity, ``sha256:<hex>``.
        device: ``cpu`` or ``cuda``.
        precision: ``f32`` or ``bf16``, what the networks compute in.
        limits: The largest picture that :meth:`prepare` accepts.
    """

    def __init__(
        self,
        manifest: EmbedderManifest,
        digest: str,
        runtimes: Sequence[Runtime],
        *,
        device: UsableDevice,
        precision: Precision,
        limits: PictureLimits,
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.device = device
        self.precision = precision
        self._runtimes = runtimes
        self.limits = limits
        self._preprocesses = [member.preprocess for member in manifest.members]

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        device: Device = "auto",
        precision: AnyPrecision = "auto",
        threads: int = 0,
        limits: PictureLimits | None = None,
    ) -> Embedder:
        """Open the artifact in ``directory``; check its files and its golden vectors.

        Args:
            directory: The artifact.
            device: ``auto`` chooses an NVIDIA GPU where there is one, else the CPU.
            precision: ``auto`` chooses bfloat16 where the processor has it and the golden
                vectors still agree, else float32.
            threads: CPU threads of one run of the network; 0 is one for each core.
            limits: The largest picture that :meth:`prepare` accepts.

        Raises:
            ArtifactMissingError: A file is missing.
            ArtifactDamagedError: A file was altered, or the vectors do not agree.
            ArtifactMismatchError: The artifact has another schema version.
            DeviceError: The device or precision is not available here.
        """
        manifest, digest = read_manifest(directory)
        check_files(directory, manifest.files, deep=True)
        runs_everywhere = all(member.exported for member in manifest.members)
        usable = resolve_device(device if runs_everywhere or device == "cuda" else "cpu")
        cosine = -1.0
        for candidate in _candidates(precision, usable):
            opened = partial(
                open_runtime,
                directory,
                device=usable,
                precision=candidate,
                threads=threads,
            )
            runtimes = list(map(opened, manifest.members))
            embedder = cls(
                manifest,
                digest,
                runtimes,
                device=usable,
                precision=candidate,
                limits=limits or PictureLimits(),
            )
            cosine = embedder.golden_cosine(directory)
            if cosine >= GOLDEN_COSINE[candidate]:
                return embedder
            _log.warning("golden vectors agree only to %.6f in %s", cosine, candidate)
        raise _disagreement(directory, precision, cosine)

    def within(self, limits: PictureLimits) -> Embedder:
        """Return the same embedder, which accepts pictures within other limits."""
        other = copy(self)
        other.limits = limits
        return other

    @property
    def dimension(self) -> int:
        """Length of the embedding."""
        return self.manifest.dimension

    @property
    def runtime(self) -> RuntimeName:
        """The engine: ``openvino`` on a CPU, ``torch_export`` on an NVIDIA GPU."""
        return RUNTIMES[self.device]

    def prepare(self, data: bytes, check: Check | None = None) -> Prepared:
        """Decode and preprocess the file of one picture.

        Args:
            data: The file.
            check: Called again and again meanwhile; what it raises ends the work and comes through.

        Raises:
            PictureError: The picture cannot be used; its ``reason`` says why.
        """
        return self._prepare(data, self.limits, check)

    def prepare_with_thumbnail(self, data: bytes, side: int) -> tuple[Prepared, bytes | None]:
        """Return what :meth:`prepare` and :func:`make_thumbnail` do, decoding once if one can."""
        if not decodes_alike(data, self._preprocesses, [thumbnail_target(side)]):
            return self.prepare(data), make_thumbnail(data, side, self.limits)
        image = decode(data, limits=self.limits, targets=self._preprocesses)
        prepared = tuple(to_array(image, preprocess) for preprocess in self._preprocesses)
        return prepared, shrink(image, side)

    def _prepare(self, data: bytes, limits: PictureLimits, check: Check | None = None) -> Prepared:
        image = decode(data, limits=limits, targets=self._preprocesses, check=check)
        return tuple(to_array(image, preprocess) for preprocess in self._preprocesses)

    def embed(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Embed prepared pictures as one batch.

        Of calls from several threads one runs at a time.

        Args:
            prepared: ``n`` pictures from :meth:`prepare`.

        Returns:
            ``(n, dimension)`` unit rows, in the same order.
        """
        if not prepared:
            return np.empty((0, self.dimension), np.float32)
        parts = [
            unit_rows(runtime.run(np.stack([picture[number] for picture in prepared])))
            for number, runtime in enumerate(self._runtimes)
        ]
        return parts[0] if len(parts) == 1 else unit_rows(np.hstack(parts))

    def golden_cosine(self, directory: Path) -> float:
        """Embed the golden pictures and return the lowest cosine with their golden vectors.

        Non-finite vectors count as -1.

        Raises:
            ArtifactDamagedError: ``golden.npz`` does not fit the manifest.
        """
        golden = read_npz(directory / GOLDEN)
        try:
            cosines = np.concatenate(
                [np.einsum("nd,nd->n", *pair) for pair in self._golden_pairs(golden)]
            )
            return float(np.nan_to_num(cosines, nan=-1.0).min())
        except (KeyError, ValueError, TypeError, PictureError) as error:
            raise ArtifactDamagedError(
                directory / GOLDEN, "it does not fit the manifest"
            ) from error

    def _golden_pairs(
        self, golden: Mapping[str, NDArray[Any]]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Pair the vectors of the networks with the golden ones: whole pictures, then crops."""
        pictures = [
            self._prepare(golden[f"picture_{number}"].tobytes(), PictureLimits())
            for number in range(len(golden["vectors"]))
        ]
        pairs = [(self.embed(pictures), golden["vectors"])]
        for number, runtime in enumerate(self._runtimes):
            crops = golden[f"crops_{number}"].astype(np.float32)
            if len(crops):
                pairs.append((unit_rows(runtime.run(crops)), golden[f"crop_vectors_{number}"]))
        return pairs

    def close(self) -> None:
        """Free the networks."""
        self._runtimes = ()


def _candidates(precision: AnyPrecision, device: UsableDevice) -> tuple[Precision, ...]:
    """Return the precisions to try, the preferred one first."""
    if precision == "f32":
        return ("f32",)
    if not can_run_bf16(device):
        if precision == "bf16":
            raise DeviceError("this processor has no bfloat16; choose the precision f32 or auto")
        return ("f32",)
    return ("bf16", "f32") if precision == "auto" else ("bf16",)


def _disagreement(directory: Path, precision: AnyPrecision, cosine: float) -> CairnError:
    if precision == "bf16":
        return DeviceError(
            f"in bf16 the golden vectors agree only to a cosine of {cosine:.6f}; "
            "choose the precision f32 or auto"
        )
    return ArtifactDamagedError(
        directory / GOLDEN,
        f"the network's vectors agree with the golden ones only to a cosine of {cosine:.6f}",
    )
