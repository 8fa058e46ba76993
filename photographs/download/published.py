"""The addresses of Google Landmarks v2; nothing of how they are downloaded.

Under one base address lie, as https://github.com/cvdfoundation/google-landmark describes::

    {split}/images_000.tar              pictures as a/b/c/abc….jpg
    md5sum/{split}/md5.images_000.txt   the tar's md5, and its name
    metadata/*.csv                      lists, names of landmarks, authors
    ground_truth/*.csv                  what the test pictures show
"""

from typing import Literal

from photographs.gldv2 import SPLIT_FILES, TRAIN_LIST

SOURCE = "https://s3.amazonaws.com/google-landmark"

TARS = {"train": 500, "index": 100, "test": 20}
"""How many tars each split has, numbered from 0."""

CLEAN_SHARE = 1_580_470 / 4_132_914
"""Share of the training pictures that the clean list names."""

Pictures = Literal["clean", "full"]


def lists_of(split: str, pictures: Pictures) -> tuple[str, ...]:
    """Return the files that go with the pictures of a split, the list of the pictures first.

    The list of all training pictures is of no use where only the clean ones are downloaded.

    >>> lists_of("train", "clean")
    ('train_clean.csv', 'train_label_to_category.csv')
    """
    return tuple(f for f in SPLIT_FILES[split] if pictures == "full" or f != TRAIN_LIST)


def file_address(name: str) -> str:
    """Return the address of a CSV file.

    >>> file_address("train.csv"), file_address("recognition_solution_v2.1.csv")
    ('metadata/train.csv', 'ground_truth/recognition_solution_v2.1.csv')
    """
    return f"{'ground_truth' if 'solution' in name else 'metadata'}/{name}"


def tar_address(split: str, number: int) -> str:
    """Return the address of a tar.

    >>> tar_address("index", 7)
    'index/images_007.tar'
    """
    return f"{split}/images_{number:03d}.tar"


def md5_address(split: str, number: int) -> str:
    """Return the address of the file that holds a tar's md5.

    >>> md5_address("index", 7)
    'md5sum/index/md5.images_007.txt'
    """
    return f"md5sum/{split}/md5.images_{number:03d}.txt"
