"""The sources of a gallery as it has stored them, where their files are not looked at."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from index.building.sources import Source
from index.gallery.gallery import Gallery
from photographs import CREDIT_COLUMNS, PhotographList

_GONE = -1


def stored_sources(gallery: Gallery) -> list[Source]:
    """Return the sources of a gallery with the photographs that it has of each."""
    catalog = gallery.catalog
    known = list(catalog.named_landmarks())
    ids = [landmark_id for landmark_id, *_ in known]
    names = {landmark_id: name for landmark_id, name, _ in known if name != landmark_id}
    links = {landmark_id: link for landmark_id, _, link in known if link}
    pictures, files = (catalog.column(name).combine_chunks() for name in ("picture_id", "path"))
    origins = catalog.numbers("source").copy()
    origins[gallery.tombstones.rows] = _GONE
    sources = []
    for place, reference in enumerate(gallery.manifest.sources):
        root, begin = Path(reference.data), len(reference.prefix)
        own = np.flatnonzero(origins == place)
        listed = pc.utf8_slice_codeunits(pictures.take(own), begin) if begin else pictures.take(own)
        photographs = PhotographList(listed, ids, catalog.landmarks[own], root, files.take(own))
        told = _stored_credits(gallery, own, listed)
        stored = partial(_stored_content, gallery, reference.prefix)
        sources.append(Source(reference, root, photographs, names, links, told, stored))
    return sources


def _stored_content(gallery: Gallery, prefix: str, picture_id: str) -> tuple[int, bytes]:
    row = gallery.find_picture(prefix + picture_id)
    if row is None:
        raise ValueError(f"the gallery has no picture {prefix + picture_id}")
    stored = gallery.catalog.row(row)
    return stored.bytes, stored.sha256


def _stored_credits(gallery: Gallery, rows: NDArray[np.int64], ids: pa.StringArray) -> pa.Table:
    """Return the credits that a gallery has of some of its rows, by these ids."""
    if gallery.credits is None:
        return CREDIT_COLUMNS.empty_table()
    return gallery.credits.table.take(rows).add_column(0, CREDIT_COLUMNS.field("id"), ids)
