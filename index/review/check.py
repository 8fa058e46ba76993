"""Check photographs, or a gallery, for pictures that do not belong where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedder.errors import CatalogError
from index.building.pipeline import find_files, reader_count
from index.building.plan import hash_files
from index.gallery.gallery import Gallery
from index.review.findings import (
    NEAR_IDENTICAL,
    OUTLIER,
    SAME_CONTENT,
    Findings,
    PictureOf,
    Suspect,
)
from index.review.neighborhoods import Pair, compare_neighbors, measure_fits
from index.review.same_content import across_landmarks
from photographs import PhotographList, PhotographSet, open_data

_NO_CONTENT = -1


def check_data(data: PhotographSet, list_name: str | None = None, *, readers: int = 0) -> Findings:
    """Check the photographs of a data folder; no picture is decoded.

    Only files of equal size are read, to compare their contents.

    Args:
        data: The photographs.
        list_name: The list that would be the gallery, by default the default one.
        readers: Threads that read; 0 for one per core.

    Raises:
        CatalogError: The list is missing or faulty.
    """
    photographs = data.gallery(list_name or data.default_list()).known()
    names, counts = data.names(list_name), photographs.counts()
    contents = _number_contents(photographs, readers)
    scores = counts[photographs.labels].astype(np.float64)

    def describe(place: int) -> PictureOf:
        one = photographs[place]
        landmark = str(one.landmark_id)
        return PictureOf(one.id, landmark, names.get(landmark, landmark), one.path)

    landmarks = [photographs.landmarks[code] for code in np.flatnonzero(counts == 1).tolist()]
    return Findings(
        title=str(data.directory),
        pictures=len(photographs),
        landmarks=int(np.count_nonzero(counts)),
        suspects=[
            Suspect(describe(wrong), SAME_CONTENT, describe(right), 1.0)
            for wrong, right in across_landmarks(contents, photographs.labels, scores)
        ],
        single=[(one, names.get(one, one)) for one in landmarks],
        passed_over=data.passed_over.counts(),
        missing=data.passed_over.landmarks,
        by_vectors=False,
    )


def _number_contents(photographs: PhotographList, readers: int) -> NDArray[np.int64]:
    """Number the contents of files, ``(n,)``; -1 for one that no other can be equal to."""
    states = [found for _, found in find_files(photographs, readers)]
    sizes = np.concatenate(states)[:, 0]
    _, places, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    look = np.flatnonzero((counts[places] > 1) & (sizes >= 0))
    digests = pa.array(hash_files(photographs.take(look), reader_count(readers)), pa.binary())
    numbers = digests.dictionary_encode().indices.to_numpy().astype(np.int64)
    numbers[np.array([not digest for digest in digests.to_pylist()], bool)] = _NO_CONTENT
    contents = np.full(len(photographs), _NO_CONTENT, np.int64)
    contents[look] = numbers
    return contents


def check_gallery(gallery: Gallery) -> Findings:
    """Check the pictures of a gallery by their contents and their vectors.

    Each picture is searched for in the gallery. What its data folders hold beside the pictures
    is counted where they are still there.
    """
    rows, catalog = gallery.live_rows(), gallery.catalog
    codes = catalog.landmarks[rows]
    counts = np.bincount(codes, minlength=catalog.landmark_count)
    fits = measure_fits(gallery)
    digests = catalog.column("sha256").take(rows).combine_chunks().dictionary_encode()
    contents = digests.indices.to_numpy().astype(np.int64)
    equal = across_landmarks(contents, codes, fits.cosines[rows])
    same = [Pair(int(rows[wrong]), int(rows[right]), 1.0) for wrong, right in equal]
    near, outliers = compare_neighbors(gallery, fits)
    content_of = np.full(len(catalog), _NO_CONTENT, np.int64)
    content_of[rows] = contents
    near = [pair for pair in near if content_of[pair.row] != content_of[pair.other]]
    describe = _describer(gallery)
    single = np.flatnonzero(counts == 1).tolist()
    passed_over, missing = _passed_over(gallery)
    return Findings(
        title=gallery.build_id,
        pictures=len(rows),
        landmarks=int(np.count_nonzero(counts)),
        suspects=[
            Suspect(describe(pair.row), reason, describe(pair.other), pair.similarity)
            for reason, pairs in ((SAME_CONTENT, same), (NEAR_IDENTICAL, near), (OUTLIER, outliers))
            for pair in pairs
        ],
        single=[(catalog.landmark_id(code), catalog.name(code)) for code in single],
        by_vectors=True,
        passed_over=passed_over,
        missing=missing,
    )


def _describer(gallery: Gallery) -> Callable[[int], PictureOf]:
    catalog, roots = gallery.catalog, [Path(one.data) for one in gallery.manifest.sources]

    def describe(row: int) -> PictureOf:
        stored = catalog.row(row)
        name = catalog.name(int(catalog.landmarks[row]))
        file = roots[stored.source] / stored.path
        return PictureOf(stored.picture_id, stored.landmark_id, name, file)

    return describe


def _passed_over(gallery: Gallery) -> tuple[Mapping[str, int], list[str]]:
    """Count what is passed over in the data folders that are there."""
    counts, missing = Counter[str](), list[str]()
    for found in _data_folders(gallery):
        counts.update(found.passed_over.counts())
        missing += found.passed_over.landmarks
    have = {gallery.catalog.landmark_id(int(code)) for code in gallery.landmarks()}
    return dict(sorted(counts.items())), sorted({*missing} - have)


def _data_folders(gallery: Gallery) -> Iterator[PhotographSet]:
    for source in gallery.manifest.sources:
        try:
            yield open_data(Path(source.data), source.layout)
        except CatalogError:  # it is gone, or holds something else now
            continue
