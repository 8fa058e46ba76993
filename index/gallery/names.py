"""Names of the landmarks of a gallery, and addresses of pages about them. Arrow files, mapped.

``landmarks.arrow`` of a segment has a row for each landmark, in :func:`photographs.landmark_order`;
behind those that it has rows of, perhaps others that are named anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedder.artifacts.files import FileRecord, RecordedFile
from index.gallery.arrow import map_table, new_arrow, required
from photographs import landmark_order, search_form

LANDMARKS = "landmarks.arrow"

NAMES = required(landmark_id=pa.string(), name=pa.string())
NAMES_2 = NAMES.append(pa.field("search_form", pa.string(), nullable=False)).append(
    pa.field("link", pa.string())
)
"""Version 2 of the names: with the form that they are searched in, and the address of a page
about the landmark, or null."""


def open_names(directory: Path) -> pa.Table:
    """Map the names of a segment; raises as :func:`index.gallery.arrow.map_table`."""
    names = map_table(directory / LANDMARKS, NAMES, NAMES_2).replace_schema_metadata(None)
    if names.schema.names != NAMES.names:
        return names
    ids, texts = (names[name].to_pylist() for name in NAMES.names)
    return _name_table(ids, texts, {})


def write_names(
    directory: Path, ids: list[str], names: Mapping[str, str], links: Mapping[str, str]
) -> FileRecord:
    """Write the names of landmarks; one without a name gets its id."""
    file = RecordedFile(directory / LANDMARKS)
    with file, new_arrow(file, NAMES_2, version=2) as writer:
        writer.write_table(_name_table(ids, [names.get(one, one) for one in ids], links))
    return file.record()


def join_names(segments: Sequence[pa.Table]) -> tuple[pa.Table, list[NDArray[np.int32]]]:
    """Return the names of all segments, in order; and the codes there of those of each segment."""
    if len(segments) == 1:
        return segments[0], []
    joined, ids = pa.concat_tables(segments), [one["landmark_id"].to_pylist() for one in segments]
    last = {landmark_id: place for place, landmark_id in enumerate(chain.from_iterable(ids))}
    codes = {landmark_id: code for code, landmark_id in enumerate(sorted(last, key=landmark_order))}
    places = [last[landmark_id] for landmark_id in codes]
    numbers = [np.array([codes[landmark_id] for landmark_id in own], np.int32) for own in ids]
    return joined.take(places), numbers


def _name_table(ids: list[str], names: list[str], links: Mapping[str, str]) -> pa.Table:
    # one long text is brought into this form sooner than many short ones
    forms = search_form("\0".join(name.replace("\0", " ") for name in names)).split("\0")
    return pa.table([ids, names, forms, [links.get(one) for one in ids]], schema=NAMES_2)
