"""Whether FAISS can make a kind of gallery, asked before there are any vectors."""

from typing import Any

import faiss
import numpy as np

from embedder.errors import GalleryError
from index.search.kinds import Kind


def check_kind(kind: Kind, *, dimension: int, rows: int | None = None) -> None:
    """Refuse a kind that cannot be made of vectors, before there are any.

    Args:
        kind: A kind.
        dimension: Length of a vector.
        rows: How many there will be, if that is known.

    Raises:
        GalleryError: FAISS does not know the kind, or trains it on more vectors.
    """
    if not kind.candidates:
        return
    try:
        index: Any = faiss.index_factory(dimension, kind.candidates, faiss.METRIC_INNER_PRODUCT)
        if kind.parameters:
            space: Any = faiss.ParameterSpace()
            space.set_index_parameters(index, kind.parameters)
        if index.is_trained:
            index.add(np.zeros((1, dimension), np.float32))
    except RuntimeError as error:
        raise GalleryError(
            f"FAISS cannot make a gallery {kind.factory!r} of {dimension} numbers for each "
            "picture; the kind is auto, exact, fastscan or a factory string of FAISS"
        ) from error
    while isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    codes = getattr(index, "pq", None)
    needed = max(getattr(index, "nlist", 1), 1 if codes is None else codes.ksub)
    if rows is not None and needed > rows:
        raise GalleryError(
            f"FAISS cannot make a gallery {kind.factory!r} of {rows} pictures: it groups "
            f"vectors around {needed} of them"
        )
