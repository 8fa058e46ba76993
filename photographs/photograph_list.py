"""A list of photographs as columns: 1.6 million of them take 31 MB, and an object each 800 MB.

Columns are never changed, so slices share them, processes that are forked share their memory, and
a pickle of them is a copy of a few buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from photographs.names import landmark_order
from photographs.photograph import Photograph

UNKNOWN = -1
"""Label of a photograph whose landmark is unknown."""

_BLOCK = 4096
"""Photographs that are made at a time while a list is iterated."""


class PhotographList(Sequence[Photograph]):
    """Photographs in an order, each made when it is asked for.

    Attributes:
        ids: ``(n,)`` strings, the ids, each once.
        landmarks: Ids of landmarks in :func:`landmark_order`; some may have no photograph here.
        labels: ``(n,)`` int32, positions in ``landmarks``; :data:`UNKNOWN` where a landmark is.
        root: Folder of the files.
        files: ``(n,)`` strings, paths of the files, absolute or relative to ``root``; ``None``
            where each lies at :func:`picture_path`.
    """

    def __init__(
        self,
        ids: pa.StringArray,
        landmarks: list[str],
        labels: NDArray[np.int32],
        root: Path,
        files: pa.StringArray | None = None,
    ) -> None:
        self.ids = ids
        self.landmarks = landmarks
        self.labels = labels
        self.root = root
        self.files = files

    @classmethod
    def of(cls, photographs: Iterable[Photograph]) -> PhotographList:
        """Take photographs as columns, in the order given; such a list is returned as it is.

        Raises:
            UnicodeEncodeError: An id or a path is not text.
        """
        if isinstance(photographs, PhotographList):
            return photographs
        blocks, codes = [], dict[str | None, int]()
        remaining = iter(photographs)
        while block := list(islice(remaining, _BLOCK)):
            ids, files = ([p.id for p in block], [str(p.path) for p in block])
            labels = [codes.setdefault(p.landmark_id, len(codes)) for p in block]
            blocks.append((pa.array(ids, pa.string()), pa.array(files, pa.string()), labels))
        names, numbers = [*codes], np.array([n for *_, labels in blocks for n in labels], np.int32)
        if None in codes:
            numbers[numbers == codes[None]] = UNKNOWN
        landmarks, numbers = in_landmark_order([str(name) for name in names], numbers)
        columns = (join_strings([block[place] for block in blocks]) for place in (0, 1))
        ids, files = columns
        return cls(ids, landmarks, numbers, Path(), files)

    @classmethod
    def concatenate(cls, lists: Sequence[PhotographList]) -> PhotographList:
        """Put lists one behind the other; their ids are not compared.

        Raises:
            UnicodeEncodeError: The folder of one of several lists is not text.
        """
        if len(lists) == 1:
            return lists[0]
        codes: dict[str, int] = {}
        parts = []
        for one in lists:
            numbers = [codes.setdefault(landmark, len(codes)) for landmark in one.landmarks]
            parts.append(np.array([*numbers, UNKNOWN], np.int32)[one.labels])
        landmarks, labels = in_landmark_order([*codes], np.concatenate(parts))
        ids, files = (
            pa.concat_arrays([one.ids for one in lists]),
            pa.concat_arrays([one.paths() for one in lists]),
        )
        return cls(ids, landmarks, labels, Path(), files)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> Photograph: ...
    @overload
    def __getitem__(self, place: slice) -> PhotographList: ...
    def __getitem__(self, place: int | slice) -> Photograph | PhotographList:
        if isinstance(place, slice):
            begin, end, step = place.indices(len(self))
            if step != 1:
                return self.take(np.arange(begin, end, step))
            return self._slice(begin, max(begin, end))
        place = range(len(self))[place]
        picture_id, label = self.ids[place].as_py(), self.labels[place]
        if self.files is None:
            path = picture_path(self.root, picture_id)
        else:
            path = self.root / self.files[place].as_py()
        return Photograph(picture_id, path, self.landmarks[label] if label >= 0 else None)

    def __iter__(self) -> Iterator[Photograph]:
        root = self.root
        for begin in range(0, len(self), _BLOCK):
            block = self._slice(begin, begin + _BLOCK)
            if block.files is None:
                paths = [picture_path(root, picture_id) for picture_id in block.ids.to_pylist()]
            else:
                paths = [root / file for file in block.files.to_pylist()]
            for (picture_id, landmark), path in zip(block.labeled_ids(), paths, strict=True):
                yield Photograph(picture_id, path, landmark)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PhotographList | list):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # like a list's

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self[:2]))
        return f"<{len(self)} photographs: {first}{', …' if len(self) > 2 else ''}>"

    def __reduce__(self) -> tuple[object, ...]:
        whole = np.arange(len(self))  # of a slice; its columns would be pickled from end to end
        files = None if self.files is None else self.files.take(whole)
        return type(self), (self.ids.take(whole), self.landmarks, self.labels, self.root, files)

    def take(self, places: NDArray[np.int64]) -> PhotographList:
        """Return the photographs at ``places``, in that order."""
        files = None if self.files is None else self.files.take(places)
        ids, labels = self.ids.take(places), self.labels[places]
        return PhotographList(ids, self.landmarks, labels, self.root, files)

    def with_ids(self, ids: pa.StringArray) -> PhotographList:
        """Return the same photographs under other ids, ``(n,)``, with the files that they have."""
        return PhotographList(ids, self.landmarks, self.labels, Path(), self.paths())

    def where(self, mask: NDArray[np.bool_]) -> PhotographList:
        """Return the photographs where ``mask``, ``(n,)``, is true; the same list where all are."""
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def known(self) -> PhotographList:
        """Return the photographs whose landmark is known."""
        return self.where(self.labels != UNKNOWN)

    def contains(self, ids: pa.StringArray) -> NDArray[np.bool_]:
        """Tell of each of ``ids`` whether a photograph here has it."""
        found: NDArray[np.bool_] = pc.is_in(ids, value_set=self.ids).to_numpy(zero_copy_only=False)
        return found

    def among(self, ids: pa.StringArray) -> NDArray[np.bool_]:
        """Tell of each photograph here, ``(n,)``, whether its id is one of ``ids``."""
        found: NDArray[np.bool_] = pc.is_in(self.ids, value_set=ids).to_numpy(zero_copy_only=False)
        return found

    def in_gallery_order(self) -> PhotographList:
        """Sort by landmark, then by id; those without a landmark last."""
        order = self.gallery_order()
        return self if (order == np.arange(len(self))).all() else self.take(order)

    def gallery_order(self) -> NDArray[np.int64]:
        """Return the places of the photographs in the order of :meth:`in_gallery_order`."""
        by_id: NDArray[np.int64] = pc.array_sort_indices(self.ids).to_numpy().astype(np.int64)
        labels = self.labels[by_id].astype(np.uint32)  # the unknown last
        return by_id[np.argsort(labels, kind="stable")]

    def counts(self) -> NDArray[np.int64]:
        """Count the photographs of each of ``landmarks``."""
        known = self.labels[self.labels != UNKNOWN]
        return np.bincount(known, minlength=len(self.landmarks)).astype(np.int64)

    def by_landmark(self) -> list[NDArray[np.int64]]:
        """Return the places of each landmark's photographs, ascending, of all that have any."""
        order = np.argsort(self.labels, kind="stable")
        first = int(np.count_nonzero(self.labels == UNKNOWN))
        counts = self.counts()
        ends = first + np.cumsum(counts[counts > 0])
        return np.split(order, [first, *ends.tolist()])[1:-1]

    def labeled_ids(self) -> Iterator[tuple[str, str | None]]:
        """Yield id and landmark of each photograph, without its path."""
        for begin in range(0, len(self), _BLOCK):
            ids = self.ids.slice(begin, _BLOCK).to_pylist()
            labels = self.labels[begin : begin + _BLOCK].tolist()
            landmarks = (self.landmarks[n] if n != UNKNOWN else None for n in labels)
            yield from zip(ids, landmarks, strict=True)

    def paths(self) -> pa.StringArray:
        """Return the path of each file: ``(n,)`` strings.

        Raises:
            UnicodeEncodeError: The folder is not text.
        """
        files = self.files
        if files is None:
            parts = [pc.utf8_slice_codeunits(self.ids, n, n + 1) for n in range(3)]
            name = pc.binary_join_element_wise(self.ids, ".jpg", "")
            files = pc.binary_join_element_wise(*parts, name, "/")
        if self.root == Path():
            return files
        below = pc.binary_join_element_wise(str(self.root), files, "/")
        return pc.if_else(pc.starts_with(files, "/"), files, below)

    def _slice(self, begin: int, end: int) -> PhotographList:
        files = None if self.files is None else self.files.slice(begin, end - begin)
        ids, labels = self.ids.slice(begin, end - begin), self.labels[begin:end]
        return PhotographList(ids, self.landmarks, labels, self.root, files)


def picture_path(root: Path, picture_id: str) -> Path:
    """Return the file of a picture below the folder of its split, as Google Landmarks v2 has it."""
    return Path(f"{root}/{picture_id[0]}/{picture_id[1]}/{picture_id[2]}/{picture_id}.jpg")


def in_landmark_order(
    landmarks: Sequence[str], labels: NDArray[np.int32]
) -> tuple[list[str], NDArray[np.int32]]:
    """Number landmarks in :func:`landmark_order`, without those that no label names.

    Args:
        landmarks: Ids, each once.
        labels: ``(n,)``, positions in ``landmarks``, or :data:`UNKNOWN`.

    Returns:
        The sorted ids, and the labels as positions in them.
    """
    shown = np.unique(labels[labels != UNKNOWN]).tolist()
    order = sorted(shown, key=lambda number: landmark_order(landmarks[number]))
    numbers = np.full(len(landmarks) + 1, UNKNOWN, np.int32)
    numbers[order] = np.arange(len(order), dtype=np.int32)
    return [landmarks[number] for number in order], numbers[labels]


def join_strings(blocks: Sequence[pa.StringArray]) -> pa.StringArray:
    """Concatenate columns, perhaps none."""
    return pa.concat_arrays(blocks) if blocks else pa.array([], pa.string())
