"""The shards layout: tars as WebDataset has them, in one folder.

::

    photographs-000000.tar     0001.jpg 0001.cls 0002.jpg 0002.cls …

The members of a picture share its key, the name up to the first dot, which is its id. Its landmark
is the text of ``KEY.cls``, or ``landmark_id`` or else ``label`` of ``KEY.json``; a picture with
neither shows no known landmark. Nothing is unpacked.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedder.errors import CatalogError
from photographs.lists import pick_listed
from photographs.photograph import CREDIT_COLUMNS
from photographs.photograph_list import UNKNOWN, PhotographList, in_landmark_order
from photographs.photograph_set import PhotographSet
from photographs.query_list import QueryList
from photographs.tars import read_members


class ShardSet(PhotographSet):
    """A data folder of tars with pictures and their labels.

    Attributes:
        files: Its pictures, ``(n,)`` relative paths; none where no tar lies there.

    Raises:
        CatalogError: Two pictures have the same key, or a tar cannot be read.
    """

    layout = "shards"

    def __init__(self, directory: Path) -> None:
        members = read_members(directory)
        super().__init__(directory, members.passed_over)
        self.files = members.files
        places = members.keys.dictionary_encode().indices.to_numpy()
        again = np.flatnonzero(places != np.arange(len(places)))
        if len(again):
            key = members.keys[again[0]].as_py()
            first = members.files[pc.index(members.keys, key).as_py()].as_py()
            raise CatalogError(
                directory,
                f"{first} and {members.files[again[0]].as_py()} would both have the id {key}",
            )
        labels = members.labels.dictionary_encode()
        numbers = labels.indices.fill_null(UNKNOWN).to_numpy().astype(np.int32)
        named = in_landmark_order(labels.dictionary.to_pylist(), numbers)
        self._all = PhotographList(members.keys, *named, directory, members.files)

    def default_list(self) -> None:
        """Return ``None``: by default every picture is listed."""

    def gallery(self, list_name: str | None = None) -> PhotographList:
        """List every picture, or those of a list, whose landmarks outrank the shards'."""
        if list_name is None:
            return self._all.in_gallery_order()
        path = self.directory / list_name
        return pick_listed(path, self._all.ids, self._all.files, self.directory)

    def queries(self) -> QueryList:
        """List every picture; one without a label shows no landmark."""
        return QueryList.of_labels(self._all)

    def names(self, list_name: str | None = None) -> dict[str, str]:
        """Return the labels, each by itself."""
        return {landmark: landmark for landmark in self._all.landmarks}

    def links(self, list_name: str | None = None) -> dict[str, str]:
        """Return nothing: shards tell no addresses."""
        return {}

    def credits(self, list_name: str) -> pa.Table:
        """Return none: shards tell no credits."""
        return CREDIT_COLUMNS.empty_table()
