"""The sources of a gallery: its lists of photographs, merged into the order of its rows.

A gallery begins with one source and may be given more; removed pictures are left out. Nothing
here opens a gallery or embeds a picture.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedder.errors import CatalogError
from embedder.picture_files import find_file, open_file
from embedder.text import normal_form
from index.gallery.manifest import ListReference
from index.gallery.tombstones import Tombstones
from photographs import (
    CREDIT_COLUMNS,
    NOTHING,
    PassedOver,
    Photograph,
    PhotographList,
    PhotographSet,
)

FOLDERS = "folders"
"""Name of the list of a data folder that has one folder per landmark."""

_NO_TOMBSTONES = Tombstones()
_MISSING = -1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """One list of photographs.

    Attributes:
        reference: Its entry in a manifest; its prefix stands before the ids in a gallery.
        root: Its data folder.
        photographs: Those with a landmark, in the order of a gallery; ids without the prefix.
        names: Names of its landmarks, by id.
        links: Addresses of pages about its landmarks, likewise.
        told: Credits by id, of the columns of ``CREDIT_COLUMNS``; perhaps of others too.
        stored: Returns size and SHA-256 of a photograph, by its id, as a gallery has them;
            ``None`` where the files count.
        passed_over: What its folder holds beside; nothing where it was not looked at.
    """

    reference: ListReference
    root: Path
    photographs: PhotographList
    names: Mapping[str, str]
    links: Mapping[str, str]
    told: pa.Table
    stored: Callable[[str], tuple[int, bytes]] | None = None
    passed_over: PassedOver = NOTHING

    @classmethod
    def dropped(cls, reference: ListReference) -> Source:
        """Return a source without photographs, which keeps the place of one that was dropped."""
        none = pa.array([], pa.string())
        photographs = PhotographList(none, [], np.empty(0, np.int32), Path(), none)
        told = CREDIT_COLUMNS.empty_table()
        return cls(reference, Path(reference.data), photographs, {}, {}, told)

    def credits(self) -> pa.Table:
        """Return the credits by the ids of a gallery."""
        ids = pc.binary_join_element_wise(self.reference.prefix, self.told["id"], "")
        return self.told.set_column(0, CREDIT_COLUMNS.field("id"), ids)


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a gallery and their photographs, merged in the order of its rows.

    Attributes:
        members: The sources, with the prefixes that tell their ids apart.
        tombstones: Removed pictures of each, which are left out.
        photographs: ``n`` photographs, with the ids of a gallery.
        origins: ``(n,)`` int32, index into ``members`` of the source of each photograph.
    """

    members: Sequence[Source]
    tombstones: Tombstones
    photographs: PhotographList
    origins: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.photographs)

    def credits(self, origins: NDArray[np.int32]) -> list[pa.Table]:
        """Return the credits of each source; none of those that ``origins``, ``(m,)``, lacks."""
        shown, none = set(origins.tolist()), CREDIT_COLUMNS.empty_table()
        return [one.credits() if n in shown else none for n, one in enumerate(self.members)]

    def names(self) -> dict[str, str]:
        """Return the names of landmarks by id; where sources disagree, the first one wins."""
        return dict(ChainMap(*(dict(source.names) for source in self.members)))

    def links(self) -> dict[str, str]:
        """Return addresses of pages about landmarks by id; the first source wins here, too."""
        return dict(ChainMap(*(dict(source.links) for source in self.members)))

    def passed_over(self) -> dict[str, int]:
        """Count by kind what is passed over in the folders of the sources."""
        counts = Counter[str]()
        for source in self.members:
            counts.update(source.passed_over.counts())
        return dict(counts)

    def missing_landmarks(self, kept: NDArray[np.bool_]) -> set[str]:
        """Return the landmarks of which no photograph is ``kept``, ``(n,)``, or read at all."""
        listed = set[str]()
        for place, source in enumerate(self.members):
            own = source.photographs
            if self.tombstones:
                own = _without_removed(source, place, self.tombstones)
            listed |= _shown(own).union(source.passed_over.landmarks)
        landmarks, labels = self.photographs.landmarks, self.photographs.labels
        found = np.bincount(labels[kept], minlength=len(landmarks))
        return listed - {landmarks[label] for label in np.flatnonzero(found).tolist()}


def read_source(data: PhotographSet, list_name: str | None = None, *, prefix: str = "") -> Source:
    """Read the photographs of a list, by default the default one, whose landmark is known.

    ``prefix`` stands before their ids in a gallery.

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
        prefix=normal_form(prefix),
        layout=data.layout,
    )
    names, links, told = data.names(name), data.links(name), data.credits(name)
    source = Source(reference, data.directory, photographs, names, links, told)
    return replace(source, passed_over=data.passed_over)


def list_digest(photographs: PhotographList) -> str:
    """Digest the ids and landmarks of photographs, in their order."""
    digest = hashlib.sha256()
    for picture_id, landmark in photographs.labeled_ids():
        digest.update(f"{picture_id}\0{landmark}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def merge_sources(members: Sequence[Source], tombstones: Tombstones = _NO_TOMBSTONES) -> Sources:
    """Merge sources into the order of a gallery, without the removed pictures of each.

    A picture that several sources list is taken from the first of them, if it is the same file
    byte for byte and shows the same landmark. Where a later source uses an id for another
    picture, as cameras do, all its ids get a prefix: the name of its folder.

    Raises:
        CatalogError: A list has an id twice, or nothing is left.
    """
    lists = [_without_removed(source, n, tombstones) for n, source in enumerate(members)]
    joined = PhotographList.concatenate(lists)
    origins = np.repeat(np.arange(len(lists), dtype=np.int32), [len(listed) for listed in lists])
    firsts = _find_firsts(joined.ids)
    own = ~_find_repeated(members, joined, origins, firsts)
    for origin, repeated in zip(*np.unique(origins[~own], return_counts=True), strict=True):
        _log.info("%d pictures of %s are in another list too", repeated, members[origin].root)
    joined, origins = joined.where(own), origins[own]
    if not len(joined):
        raise CatalogError(members[0].root, "every picture that it lists was removed")
    prefixes = [source.reference.prefix for source in members]
    if any(prefixes) or (firsts[own] != np.flatnonzero(own)).any():
        prefixes = _choose_prefixes(members, joined.ids, origins)
    if any(prefixes):
        joined = joined.with_ids(_join_prefixes(prefixes, joined.ids, origins))
    for place, (source, prefix) in enumerate(zip(members, prefixes, strict=True)):
        tombstones = tombstones.renamed(place, source.reference.prefix, prefix)
    members = [_with_prefix(*pair) for pair in zip(members, prefixes, strict=True)]
    places = joined.gallery_order()
    return Sources(members, tombstones, joined.take(places), origins[places])


def _shown(photographs: PhotographList) -> set[str]:
    labels = np.flatnonzero(photographs.counts()).tolist()
    return {photographs.landmarks[label] for label in labels}


def _without_removed(source: Source, place: int, tombstones: Tombstones) -> PhotographList:
    photographs, prefix = source.photographs, source.reference.prefix
    return photographs.where(~tombstones.covers(place, photographs, prefix))


def _with_prefix(source: Source, prefix: str) -> Source:
    if prefix == source.reference.prefix:
        return source
    return replace(source, reference=source.reference.model_copy(update={"prefix": prefix}))


class _Content:
    """What is compared of two pictures of one id."""

    def __init__(self, source: Source, photograph: Photograph) -> None:
        self._landmark, self._path = photograph.landmark_id, photograph.path
        if source.stored is None:
            self._size, self._sha256 = find_file(photograph.path)[0], b""
        else:
            self._size, self._sha256 = source.stored(photograph.id)

    def equals(self, other: _Content) -> bool:
        """Compare landmark and file; of a missing file, any other counts as a copy.

        Reading will report it if it matters.
        """
        if self._landmark != other._landmark:
            return False
        if self._path == other._path or _MISSING in (self._size, other._size):
            return True
        if self._size != other._size:
            return False
        try:
            same_file = self._path.resolve() == other._path.resolve()
            return same_file or self._digest() == other._digest()
        except OSError:
            return True

    def _digest(self) -> bytes:
        if not self._sha256:
            with open_file(self._path) as picture:
                self._sha256 = picture.sha256()
        return self._sha256


def _find_repeated(
    members: Sequence[Source],
    joined: PhotographList,
    origins: NDArray[np.int32],
    firsts: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Tell of each photograph, ``(n,)``, whether an earlier source has the same one.

    ``firsts``, ``(n,)``, is the first place of each one's id.
    """
    known: dict[int, list[_Content]] = {}
    repeated = np.zeros(len(joined), np.bool_)
    for place in np.flatnonzero(firsts != np.arange(len(joined))).tolist():
        first = int(firsts[place])
        if first not in known:
            known[first] = [_Content(members[origins[first]], joined[first])]
        content = _Content(members[origins[place]], joined[place])
        repeated[place] = any(content.equals(earlier) for earlier in known[first])
        if not repeated[place]:
            known[first].append(content)
    return repeated


def _choose_prefixes(
    members: Sequence[Source], ids: pa.StringArray, origins: NDArray[np.int32]
) -> list[str]:
    """Return a prefix for each source, so that each id with its prefix is there once."""
    prefixes = [source.reference.prefix for source in members]
    for _ in range(len(members) + 1):
        whole = _join_prefixes(prefixes, ids, origins)
        again = _find_firsts(whole) != np.arange(len(whole))
        if not again.any():
            return prefixes
        origin = int(origins[again].min())
        prefixes[origin] = _new_prefix(members[origin].root, whole)
        what = "%s uses ids of other pictures: its ids begin with %s"
        _log.info(what, members[origin].root, prefixes[origin])
    raise CatalogError(members[origin].root, "it lists an id twice")


def _new_prefix(root: Path, ids: pa.StringArray) -> str:
    """Return a prefix that none of ``ids`` has; without spaces, which separate ids in lists."""
    name = re.sub(r"[^\w.-]+", "-", normal_form(root.name)) or "source"
    numbered = (f"{name}-{number}/" for number in itertools.count(2))
    candidates = itertools.chain([f"{name}/"], numbered)
    return next(one for one in candidates if not pc.any(pc.starts_with(ids, one)).as_py())


def _join_prefixes(
    prefixes: Sequence[str], ids: pa.StringArray, origins: NDArray[np.int32]
) -> pa.StringArray:
    before = pa.array(prefixes, pa.string()).take(pa.array(origins))
    return pc.binary_join_element_wise(before, ids, "")


def _find_firsts(ids: pa.StringArray) -> NDArray[np.int64]:
    """Return the first place of each id, ``(n,)``."""
    numbers = ids.dictionary_encode().indices.to_numpy()  # in the order of their first places
    firsts = np.flatnonzero(np.diff(np.maximum.accumulate(numbers), prepend=-1))
    found: NDArray[np.int64] = firsts[numbers]
    return found
