"""What a data folder holds: photographs, queries, credits; and the interface of its layouts."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

from photographs.names import landmark_order


@dataclass(frozen=True, slots=True)
class Photograph:
    """One picture of a list.

    Attributes:
        id: Unique within its list.
        path: Its file, which may be missing.
        landmark_id: The landmark it shows; ``None`` where that is unknown.
    """

    id: str
    path: Path
    landmark_id: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """One picture to recognize, with its ground truth.

    Attributes:
        id: Unique within its set.
        path: Its file, which may be missing.
        landmark_ids: Every landmark it shows; empty for a picture of no landmark.
    """

    id: str
    path: Path
    landmark_ids: tuple[str, ...]


class Credit(NamedTuple):
    """The author and license of a picture; ``None`` where a field is empty.

    Attributes:
        author: As the list words it, like the other fields.
        license: Its name or its address.
        title: Of the picture.
        url: Where it was published.
    """

    author: str | None
    license: str | None
    title: str | None
    url: str | None


class PhotographSet(ABC):
    """The photographs of one data folder, whatever its layout.

    Attributes:
        directory: The data folder.
        layout: Which of the two layouts it has.
    """

    layout: Literal["gldv2", "folders"]

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abstractmethod
    def default_list(self) -> str | None:
        """Return the list that :meth:`gallery` reads by default; ``None`` for every picture.

        Raises:
            CatalogError: There is none.
        """

    @abstractmethod
    def gallery(self, list_name: str | None = None) -> list[Photograph]:
        """List the photographs to train on or to search in.

        Args:
            list_name: A list file of the data folder, or a path to one elsewhere; see
                :meth:`default_list`.

        Returns:
            In gallery order: see :func:`in_gallery_order`.

        Raises:
            CatalogError: The list is missing or faulty; the line is named.
        """

    @abstractmethod
    def queries(self) -> list[Query]:
        """List the pictures with ground truth, sorted by id.

        Returns:
            In the gldv2 layout those of the recognition solution, none where it is absent;
            in the folders layout every picture, those outside the landmark folders
            as pictures of no landmark.

        Raises:
            CatalogError: The solution is faulty; the line is named.
        """

    @abstractmethod
    def names(self, list_name: str | None = None) -> dict[str, str]:
        """Return the known names of landmarks, by id.

        Args:
            list_name: The list whose landmarks they are; by default as for :meth:`gallery`.

        Raises:
            CatalogError: The file of names is faulty; the line is named.
        """

    @abstractmethod
    def links(self, list_name: str | None = None) -> dict[str, str]:
        """Return known addresses of pages about landmarks, by id; else as :meth:`names`."""

    @abstractmethod
    def credits(self, list_name: str) -> Iterator[tuple[str, Credit]]:
        """Yield the known credits, each with the id of its picture.

        Args:
            list_name: The list of the pictures; credits of others may be among them.

        Raises:
            CatalogError: The file of credits is faulty; the line is named.
        """


def in_gallery_order(photographs: Iterable[Photograph]) -> list[Photograph]:
    """Sort by landmark (:func:`landmark_order`), then by id; those without a landmark last."""
    by_landmark: dict[str | None, list[Photograph]] = defaultdict(list)
    for photograph in photographs:
        by_landmark[photograph.landmark_id].append(photograph)
    unknown = by_landmark.pop(None, [])
    known = sorted(by_landmark.items(), key=lambda group: landmark_order(str(group[0])))
    groups = (*(group for _, group in known), unknown)
    return [photograph for group in groups for photograph in sorted(group, key=attrgetter("id"))]
