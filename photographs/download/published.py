"""What is published of Google Landmarks v2, and where; nothing of how it is brought.

Under one address lie, by the words of https://github.com/cvdfoundation/google-landmark::

    {split}/images_000.tar              pictures as a/b/c/abc….jpg
    md5sum/{split}/md5.images_000.txt   the tar's md5, and its name
    metadata/*.csv                      lists, names of landmarks, authors
    ground_truth/*.csv                  what the test pictures show
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SOURCE = "https://s3.amazonaws.com/google-landmark"

CLEAN_SHARE = 1_580_470 / 4_132_914
"""Part of the training pictures that the clean list names."""

TRAIN_LIST, CLEAN_LIST = "train.csv", "train_clean.csv"
ATTRIBUTION = "metadata/train_attribution.csv"

Pictures = Literal["clean", "full"]


@dataclass(frozen=True, slots=True)
class Split:
    """One of the three parts.

    Attributes:
        name: That of its folder.
        tars: How many there are, numbered from 0.
        lists: Addresses of its lists; the first names its pictures.
    """

    name: str
    tars: int
    lists: tuple[str, ...]


SPLITS = {
    split.name: split
    for split in (
        Split(
            "train",
            500,
            (
                f"metadata/{TRAIN_LIST}",
                f"metadata/{CLEAN_LIST}",
                "metadata/train_label_to_category.csv",
            ),
        ),
        Split(
            "index",
            100,
            (
                "metadata/index.csv",
                "metadata/index_image_to_landmark.csv",
                "metadata/index_label_to_category.csv",
            ),
        ),
        Split(
            "test",
            20,
            (
                "metadata/test.csv",
                "ground_truth/recognition_solution_v2.1.csv",
                "ground_truth/retrieval_solution_v2.1.csv",
            ),
        ),
    )
}


def lists_of(split: Split, pictures: Pictures) -> tuple[str, ...]:
    """Give the addresses of the lists that go with the pictures, the naming one first.

    The whole list of training pictures is of no use where only the clean ones are there.

    >>> lists_of(SPLITS["train"], "clean")[0]
    'metadata/train_clean.csv'
    """
    if pictures == "full":
        return split.lists
    return tuple(address for address in split.lists if not address.endswith(f"/{TRAIN_LIST}"))


def tar_address(split: Split, number: int) -> str:
    """Give the address of a tar.

    >>> tar_address(SPLITS["index"], 7)
    'index/images_007.tar'
    """
    return f"{split.name}/images_{number:03d}.tar"


def md5_address(split: Split, number: int) -> str:
    """Give the address of the file that holds a tar's md5.

    >>> md5_address(SPLITS["index"], 7)
    'md5sum/index/md5.images_007.txt'
    """
    return f"md5sum/{split.name}/md5.images_{number:03d}.txt"
