"""The sources of a gallery: its lists of photographs, merged into the order of its rows.

A gallery begins with one source and may be given more; removed pictures are left out. Nothing
here opens a gallery or embeds a picture.
"""

import hashlib
import logging
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.errors import CatalogError
from embedder.picture_files import open_file
from index.gallery.manifest import ListReference
from index.gallery.tombstones import Tombstones
from photographs import Credit, Photograph, PhotographList, PhotographSet

FOLDERS = "folders"
"""Name of the list of a data folder that has one folder per landmark."""

_NO_TOMBSTONES = Tombstones()

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """One list of photographs.

    Attributes:
        reference: Its entry in a manifest.
        root: Its data folder.
        photographs: Those with a landmark, in the order of a gallery.
        names: Names of its landmarks, by id.
        links: Addresses of pages about its landmarks, likewise.
        credits: Yields credits by picture id; perhaps of pictures outside of the list too.
    """

    reference: ListReference
    root: Path
    photographs: PhotographList
    names: Mapping[str, str]
    links: Mapping[str, str]
    credits: Callable[[], Iterable[tuple[str, Credit]]]

    @property
    def key(self) -> tuple[str, str]:
        """Identity of a source: its folder and its list."""
        return self.reference.data, self.reference.name


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a gallery and their photographs, merged in the order of its rows.

    Attributes:
        members: The sources.
        tombstones: Removed pictures of each, which are left out.
        photographs: ``n`` photographs.
        origins: ``(n,)`` int32, index into ``members`` of the source of each photograph.
    """

    members: Sequence[Source]
    tombstones: Tombstones
    photographs: PhotographList
    origins: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.photographs)

    def names(self) -> dict[str, str]:
        """Return the names of landmarks by id; where sources disagree, the first one wins."""
        return dict(ChainMap(*(dict(source.names) for source in self.members)))

    def links(self) -> dict[str, str]:
        """Return addresses of pages about landmarks by id; the first source wins here, too."""
        return dict(ChainMap(*(dict(source.links) for source in self.members)))


def read_source(data: PhotographSet, list_name: str | None = None) -> Source:
    """Read the photographs of a list, by default the default one, whose landmark is known.

    Raises:
        CatalogError: The list is missing, faulty, or names no landmark; or the file of credits
            is faulty, which is found now rather than after embedding.
    """
    name = list_name or data.default_list() or FOLDERS
    listed = data.gallery(None if name == FOLDERS else name)
    photographs = listed.known()
    if not photographs:
        raise CatalogError(data.directory, f"no picture of {name} has a landmark")
    if skipped := len(listed) - len(photographs):
        _log.warning("%d pictures of %s show no known landmark; left out", skipped, name)
    reference = ListReference(
        data=str(data.directory.resolve()),
        name=name,
        digest=list_digest(photographs),
        pictures=len(photographs),
    )
    read_credits = partial(data.credits, name)
    deque(read_credits(), maxlen=0)
    names, links = data.names(name), data.links(name)
    return Source(reference, data.directory, photographs, names, links, read_credits)


def list_digest(photographs: PhotographList) -> str:
    """Digest the ids and landmarks of photographs, in their order."""
    digest = hashlib.sha256()
    for picture_id, landmark in photographs.labeled_ids():
        digest.update(f"{picture_id}\0{landmark}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def merge_sources(members: Sequence[Source], tombstones: Tombstones = _NO_TOMBSTONES) -> Sources:
    """Merge sources into the order of a gallery, without the removed pictures of each.

    A picture that several sources list is taken from the first of them, if it is the same file
    byte for byte and shows the same landmark.

    Raises:
        CatalogError: Two sources use one id for different pictures, or nothing is left.
    """
    lists = [source.photographs for source in members]
    if tombstones:
        lists = [one.where(~tombstones.covers(n, one)) for n, one in enumerate(lists)]
    joined = PhotographList.concatenate(lists)
    origins = np.repeat(np.arange(len(lists), dtype=np.int32), [len(listed) for listed in lists])
    numbers = joined.ids.dictionary_encode().indices.to_numpy()  # alike where ids are alike
    _, firsts = np.unique(numbers, return_index=True)
    again = np.flatnonzero(firsts[numbers] != np.arange(len(joined)))
    for place in again.tolist():
        _require_same(joined[firsts[numbers[place]]], joined[place])
    for origin, repeated in zip(*np.unique(origins[again], return_counts=True), strict=True):
        _log.info("%d pictures of %s are in another list too", repeated, members[origin].root)
    places = firsts[joined.take(firsts).gallery_order()]
    if not len(places):
        raise CatalogError(members[0].root, "every picture that it lists was removed")
    return Sources(members, tombstones, joined.take(places), origins[places])


def _require_same(first: Photograph, second: Photograph) -> None:
    if first.landmark_id == second.landmark_id and _is_same_file(first.path, second.path):
        return
    reason = f"its id {second.id} is already that of another picture, {first.path}; rename one"
    raise CatalogError(second.path, reason)


def _is_same_file(first: Path, second: Path) -> bool:
    if first == second or first.resolve() == second.resolve():
        return True
    try:
        with open_file(first) as one, open_file(second) as other:
            return one.size == other.size and one.sha256() == other.sha256()
    except OSError:
        return True  # a file is missing: reading the first one will report it if it matters
