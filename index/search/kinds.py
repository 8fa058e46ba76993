"""Kinds of gallery: what the name of one means, and which of them ``auto`` is.

A gallery keeps every vector in fp16. The kind ``exact`` compares all of them. Any other kind has
a *first look* besides, which finds candidates by smaller codes; the *second look* compares these
in fp16, so that a similarity is the exact one whatever the kind. Nothing here knows of FAISS but
the names that it gives to things.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from embedder.errors import GalleryError

AUTO = "auto"
AUTO_EXACT_ROWS = 100_000
"""Up to here two cores compare every vector in a few milliseconds, so ``auto`` is exact."""

FP16_BYTES = 2
_FP16 = "SQfp16"
_SECOND_LOOK = f",Refine({_FP16})"
_GPU_SHARE = 0.8  # of the GPU's free memory; the rest is for the search itself


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of gallery.

    Attributes:
        name: What the manifest calls it.
        first_look: A factory string of FAISS; empty for ``exact``, which needs none.
        settings: What FAISS is to set in it, such as ``nprobe=64``; mostly empty.
    """

    name: Literal["exact", "fastscan", "factory"]
    first_look: str = ""
    settings: str = ""

    @property
    def factory(self) -> str:
        """The whole in FAISS's words.

        >>> fastscan(512).factory
        'PQ128x4fs,Refine(SQfp16)'
        """
        if not self.first_look:
            return _FP16
        return f"{self.first_look}{_SECOND_LOOK}" + (f";{self.settings}" if self.settings else "")


EXACT = Kind("exact")


def fastscan(dimension: int) -> Kind:
    """Return the kind that compares every vector by a 4-bit code for each four dimensions.

    Codes need to divide the vector evenly, so their number is the divisor of ``dimension``
    that is nearest to a fourth of it.

    >>> fastscan(8).first_look, fastscan(250).first_look
    ('PQ2x4fs', 'PQ50x4fs')
    """
    divisors = [number for number in range(1, dimension + 1) if dimension % number == 0]
    codes = min(divisors, key=lambda number: abs(number - dimension / 4))
    return Kind("fastscan", f"PQ{codes}x4fs")


def resolve(asked: str, rows: int, *, dimension: int, gpu_bytes: int = 0) -> Kind:
    """Turn what was asked for into a kind.

    Args:
        asked: ``auto``, ``exact``, ``fastscan``, or a factory string of FAISS, with or without
            ``,Refine(SQfp16)`` at its end, and then perhaps ``;nprobe=64`` or the like.
        rows: How many vectors there are.
        dimension: Their length.
        gpu_bytes: Free memory of the GPUs that will search; 0 where a CPU does. ``auto`` is
            exact at any size that fits there.

    Raises:
        GalleryError: A factory string asks for another second look than fp16.

    >>> resolve("auto", 1_580_470, dimension=512).name
    'fastscan'
    >>> resolve("IVF64,PQ16x4fs;nprobe=8", 10_000, dimension=64).factory
    'IVF64,PQ16x4fs,Refine(SQfp16);nprobe=8'
    """
    if asked == AUTO:
        fits = rows * dimension * FP16_BYTES <= _GPU_SHARE * gpu_bytes
        asked = "exact" if fits or rows <= AUTO_EXACT_ROWS else "fastscan"
    if asked in ("exact", _FP16):
        return EXACT
    if asked == "fastscan":
        return fastscan(dimension)
    factory, _, settings = asked.partition(";")
    first_look = factory.removesuffix(_SECOND_LOOK)
    if "Refine(" in first_look:
        raise GalleryError(f"the kind {asked!r} has another second look than {_SECOND_LOOK[1:]}")
    return Kind("factory", first_look, settings)
