"""What a data folder holds: photographs, queries and credits."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa


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


_REPEATED = pa.dictionary(pa.int32(), pa.string())
CREDIT_COLUMNS = pa.schema(
    {
        "id": pa.string(),
        "author": _REPEATED,
        "license": _REPEATED,
        "title": pa.string(),
        "url": pa.string(),
    }
)
"""Columns of many credits: the id of each picture, and the fields of :class:`Credit`."""
