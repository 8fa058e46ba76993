"""What a gallery is asked to hold: its lists of photographs, put together, less what was removed.

A gallery begins with one list and may be given more. The *source* of a photograph is the place
of its list among them. Nothing here opens a gallery or embeds a picture.
"""

from __future__ import annotations

import filecmp
import hashlib
import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from embedder.errors import CatalogError
from index.gallery.manifest import ListReference
from index.gallery.tombstones import Removed
from photographs import Credit, Photograph, PhotographSet, landmark_order

FOLDERS = "folders"
"""The name of the list of a folder that has one folder per landmark."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """One list of photographs.

    Attributes:
        reference: What a manifest says of it.
        root: Its data folder.
        photographs: Those with a landmark, in the order of a gallery.
        names: Of its landmarks, by id.
        credits: Tells the credits of its pictures, and maybe of others, when it is called.
    """

    reference: ListReference
    root: Path
    photographs: Sequence[Photograph]
    names: Mapping[str, str]
    credits: Callable[[], Iterable[tuple[str, Credit]]]

    @property
    def key(self) -> tuple[str, str]:
        """What tells one source from another: its folder and its list."""
        return self.reference.data, self.reference.name


@dataclass(frozen=True, slots=True)
class Wanted:
    """The photographs of a gallery to be, in the order of its rows.

    Attributes:
        sources: The lists.
        removed: What was left out of them.
        photographs: The photographs.
        origins: The source of each, as its place in ``sources``.
    """

    sources: Sequence[Source]
    removed: Removed
    photographs: Sequence[Photograph]
    origins: Sequence[int]

    def __len__(self) -> int:
        return len(self.photographs)

    def names(self) -> dict[str, str]:
        """Return the names of landmarks; of several for one landmark the first source's."""
        return {
            landmark: name
            for source in reversed(self.sources)
            for landmark, name in source.names.items()
        }

    def path(self, place: int) -> str:
        """Return the path of a photograph as the catalog has it.

        Relative to the data folder of its source, absolute where it does not lie below.
        """
        path, root = self.photographs[place].path, self.sources[self.origins[place]].root
        return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def open_source(data: PhotographSet, list_name: str | None = None) -> Source:
    """Read a list of photographs that can be answers: those whose landmark is known.

    Args:
        data: The data folder.
        list_name: The list; by default :meth:`photographs.PhotographSet.default_list`.

    Raises:
        CatalogError: The list is missing, faulty, or names no landmark; or the file of credits
            is faulty, which is better told now than when every picture is embedded.
    """
    name = list_name or data.default_list() or FOLDERS
    listed = data.gallery(None if name == FOLDERS else name)
    photographs = [photograph for photograph in listed if photograph.landmark_id is not None]
    if not photographs:
        raise CatalogError(data.directory, f"no picture of {name} has a landmark")
    if left_out := len(listed) - len(photographs):
        _log.warning("%d pictures of %s show no known landmark; left out", left_out, name)
    reference = ListReference(
        data=str(data.directory.resolve()),
        name=name,
        digest=list_digest(photographs),
        pictures=len(photographs),
    )
    told = partial(data.credits, name)
    deque(told(), maxlen=0)
    return Source(reference, data.directory, photographs, data.names(name), told)


def list_digest(photographs: Iterable[Photograph]) -> str:
    """Digest the ids and landmarks of a list, in its order.

    Raises:
        CatalogError: A name is not text.
    """
    digest = hashlib.sha256()
    for photograph in photographs:
        try:
            digest.update(f"{photograph.id}\0{photograph.landmark_id}\n".encode())
        except UnicodeEncodeError as error:
            raise CatalogError(photograph.path, "its name is not text in UTF-8") from error
    return f"sha256:{digest.hexdigest()}"


def put_together(sources: Sequence[Source], removed: Removed | None = None) -> Wanted:
    """Merge lists into one in the order of a gallery, without what was removed.

    A picture that several lists name is taken from the first of them, if it is the same file
    byte for byte and shows the same landmark.

    Raises:
        CatalogError: Two lists name different pictures alike, or nothing is left.
    """
    removed = removed or Removed()
    photographs, origins = [], []
    for origin, photograph in _merge(sources):
        if not removed.holds(photograph.id, photograph.landmark_id):
            photographs.append(photograph)
            origins.append(origin)
    if not photographs:
        raise CatalogError(sources[0].root, "every picture that it lists was removed")
    return Wanted(sources, removed, photographs, origins)


def _merge(sources: Sequence[Source]) -> Iterator[tuple[int, Photograph]]:
    taken: dict[str, Photograph] = {}
    unique: list[list[tuple[int, Photograph]]] = []
    for origin, source in enumerate(sources):
        new = []
        for photograph in source.photographs:
            first = taken.setdefault(photograph.id, photograph)
            if first is photograph:
                new.append((origin, photograph))
            else:
                _demand_same(first, photograph)
        if doubles := len(source.photographs) - len(new):
            _log.info("%d pictures of %s are in another list too", doubles, source.root)
        unique.append(new)
    return heapq.merge(*unique, key=lambda pair: _order(pair[1]))


def _order(photograph: Photograph) -> tuple[tuple[int, int, str, str], str]:
    return landmark_order(photograph.landmark_id or ""), photograph.id


def _demand_same(first: Photograph, second: Photograph) -> None:
    if first.landmark_id == second.landmark_id:
        if first.path.resolve() == second.path.resolve():
            return
        try:
            if filecmp.cmp(first.path, second.path, shallow=False):
                return
        except OSError:
            return  # one of them is not there: whoever reads the first will say so
    raise CatalogError(
        second.path,
        f"its id {second.id} is already that of another picture, {first.path}; rename one",
    )
