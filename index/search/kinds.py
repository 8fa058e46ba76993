"""Kinds of gallery: their names, and which of them ``auto`` is.

A gallery keeps every vector in fp16. The kind ``exact`` compares all of them. Any other kind
finds candidates by smaller codes first (``fastscan``: 4-bit product quantization, PQ) and refines
them in fp16, so that similarities are exact whatever the kind. This module knows the names of
FAISS and does not load it.
"""

from dataclasses import dataclass
from typing import Literal

from embedder.errors import GalleryError

AUTO, FASTSCAN = "auto", "fastscan"
AUTO_EXACT_ROWS = 100_000
"""Up to here two cores compare every vector in a few milliseconds, so ``auto`` is exact."""

FP16_BYTES = 2
_FP16 = "SQfp16"
_REFINE = f",Refine({_FP16})"
_GPU_SHARE = 0.8  # of the free memory of the GPUs; the rest is for the search itself


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of gallery.

    Attributes:
        name: Its name in the manifest.
        candidates: FAISS factory string of the index that finds candidates; empty for ``exact``.
        parameters: FAISS search parameters of it, such as ``nprobe=64``; mostly empty.
    """

    name: Literal["exact", "fastscan", "factory"]
    candidates: str = ""
    parameters: str = ""

    @property
    def factory(self) -> str:
        """FAISS factory string of the whole.

        >>> fastscan(512).factory
        'PQ128x4fs,Refine(SQfp16)'
        """
        if not self.candidates:
            return _FP16
        return f"{self.candidates}{_REFINE}" + (f";{self.parameters}" if self.parameters else "")


EXACT = Kind("exact")


def fastscan(dimension: int) -> Kind:
    """Return the kind that compares every vector by a 4-bit code for each four dimensions.

    Codes have to divide the vector evenly, so their number is the divisor of ``dimension``
    nearest to a fourth of it.

    >>> fastscan(8).candidates, fastscan(250).candidates
    ('PQ2x4fs', 'PQ50x4fs')
    """
    divisors = [number for number in range(1, dimension + 1) if dimension % number == 0]
    codes = min(divisors, key=lambda number: abs(number - dimension / 4))
    return Kind("fastscan", f"PQ{codes}x4fs")


def resolve(asked: str, rows: int, *, dimension: int, gpu_bytes: int = 0) -> Kind:
    """Turn a requested kind into a kind.

    Args:
        asked: ``auto``, ``exact``, ``fastscan``, or a FAISS factory string, with or without
            ``,Refine(SQfp16)`` at its end, and then perhaps parameters: ``;nprobe=64``.
        rows: How many vectors there are.
        dimension: Their length.
        gpu_bytes: Free memory of the GPUs that will search; 0 for a CPU. ``auto`` is exact at
            any size that fits there.

    Raises:
        GalleryError: A factory string refines otherwise than in fp16.

    >>> resolve("auto", 1_580_470, dimension=512).name
    'fastscan'
    >>> resolve("IVF64,PQ16x4fs;nprobe=8", 10_000, dimension=64).factory
    'IVF64,PQ16x4fs,Refine(SQfp16);nprobe=8'
    """
    if asked == AUTO:
        fits = rows * dimension * FP16_BYTES <= _GPU_SHARE * gpu_bytes
        asked = "exact" if fits or rows <= AUTO_EXACT_ROWS else FASTSCAN
    if asked in ("exact", _FP16):
        return EXACT
    if asked == FASTSCAN:
        return fastscan(dimension)
    factory, _, parameters = asked.partition(";")
    candidates = factory.removesuffix(_REFINE)
    if "Refine(" in candidates:
        raise GalleryError(f"the kind {asked!r} has another refinement than {_REFINE[1:]}")
    return Kind("factory", candidates, parameters)
