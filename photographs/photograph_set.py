"""The interface of the layouts of data folders."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import pyarrow as pa

from photographs.passed_over import NOTHING, PassedOver
from photographs.photograph_list import PhotographList
from photographs.query_list import QueryList

Layout = Literal["gldv2", "folders", "shards"]


class PhotographSet(ABC):
    """The photographs of one data folder, whatever its layout.

    Attributes:
        directory: The data folder.
        layout: Which of the layouts it has.
        passed_over: What its folders or tars hold that is not read.
    """

    layout: Layout

    def __init__(self, directory: Path, passed_over: PassedOver = NOTHING) -> None:
        self.directory = directory
        self.passed_over = passed_over

    @abstractmethod
    def default_list(self) -> str | None:
        """Return the list that :meth:`gallery` reads by default; ``None`` for every picture.

        Raises:
            CatalogError: There is none.
        """

    @abstractmethod
    def gallery(self, list_name: str | None = None) -> PhotographList:
        """List the photographs to train on or to search in.

        Args:
            list_name: A list file of the data folder, or a path to one elsewhere; see
                :meth:`default_list`.

        Returns:
            In gallery order: see :meth:`PhotographList.in_gallery_order`.

        Raises:
            CatalogError: The list is missing or faulty; the line is named.
        """

    @abstractmethod
    def queries(self) -> QueryList:
        """List the pictures with ground truth, sorted by id.

        Returns:
            In the gldv2 layout those of the recognition solution, none where it is absent;
            in the other layouts every picture, those without a landmark as pictures of none.

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
    def credits(self, list_name: str) -> pa.Table:
        """Return the known credits, each with the id of its picture.

        Args:
            list_name: The list of the pictures; credits of others may be among them.

        Returns:
            Of the columns of :data:`photographs.photograph.CREDIT_COLUMNS`.

        Raises:
            CatalogError: The file of credits is faulty; the line is named.
        """
