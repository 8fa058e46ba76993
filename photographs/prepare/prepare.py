"""Make a data folder out of another: fewer pictures, smaller ones, and lists of splits.

The new folder has the layout of the old one. It is made beside its place, under the name
``OUT.part``, and renamed once it is complete; the same call goes on with what a killed one left.
"""

import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from embedder.artifacts.documents import VERSION, read_document, write_document
from embedder.artifacts.files import sync_directory, write_atomic
from embedder.errors import ArtifactMissingError, CatalogError
from embedder.picture_files import find_file
from photographs.gldv2 import ATTRIBUTION, GALLERY_LISTS, SOLUTION, SPLIT_FILES, split_of
from photographs.layouts import open_data
from photographs.lists import is_by_landmark, write_list
from photographs.photograph import Photograph
from photographs.photograph_list import PhotographList
from photographs.photograph_set import Layout, PhotographSet
from photographs.prepare.copies import CopyRecipe, Job, make_copies
from photographs.prepare.split import (
    CountsRecipe,
    FoldsRecipe,
    SubsetRecipe,
    balanced_subset,
    counts_split,
    folds_split,
    random_subset,
)

_FOLDERS_LIST = "pictures.csv"
"""The list that a folder of the folders layout gets."""

_BLOCK_PICTURES = 4096
"""Pictures whose paths are objects at a time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pictures of a list are selected: each field narrows what the one before it left.

    Attributes:
        only_present: Those whose file is there.
        at_least: Those of landmarks with at least so many pictures.
        landmarks: Those of so many landmarks, the ones with the most pictures.
        pictures: At most so many of each landmark, at random.
        total: So many of all, at random.
    """

    only_present: bool = False
    at_least: int = 1
    landmarks: int | None = None
    pictures: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """Which splits of the selected pictures get lists of their own.

    Attributes:
        folds: So many ``LIST_fold_N.csv``, each with ``LIST_without_fold_N.csv``; 0 makes none.
        counts: Sizes of ``LIST_train.csv``, ``LIST_validation.csv`` and ``LIST_test.csv``.
    """

    folds: int = 0
    counts: CountsRecipe | None = None


@dataclass(frozen=True, slots=True)
class Preparation:
    """What to make of a data folder.

    Attributes:
        lists: Its lists to take pictures from; empty for the default one.
        selection: Which pictures of each list.
        parts: Which further lists to write.
        copies: How pictures are made smaller; ``None`` links the files.
        queries: Copy the pictures of the recognition solution too, all of them.
        seed: Of everything random.
        max_unreadable: Share of the pictures that may be unreadable before it stops.
        layout: Of the data folder; ``None`` for the one that is found.
    """

    lists: tuple[str, ...] = ()
    selection: Selection = Selection()
    parts: Parts = Parts()
    copies: CopyRecipe | None = None
    queries: bool = True
    seed: int = 0
    max_unreadable: float = 0.01
    layout: Layout | None = None


def prepare(
    source: Path, out: Path, preparation: Preparation, *, workers: int = 1
) -> dict[str, Any]:
    """Make the folder.

    Pictures that cannot be read are left out of every list, and named with the reason in
    ``unreadable.txt``.

    Args:
        source: A data folder.
        out: The new one; it must not exist.
        preparation: What to make.
        workers: Processes that make copies.

    Returns:
        How many pictures were selected, how many of them cannot be read, and how many each list
        names.

    Raises:
        CatalogError: The source is faulty, the new folder exists or was begun with other options,
            no picture is selected, or too many cannot be read.
        TrainingError: There are too few pictures for the counts.
    """
    data = open_data(source, preparation.layout)
    if data.layout == "shards":
        raise CatalogError(source, "it holds shards, which are used as they are")
    lists = _select_lists(data, preparation)
    work = _begin(source, out, preparation)
    pictures = _pictures(data, lists, preparation)
    unreadable = _copy(pictures, work, preparation, workers)
    sizes = {}
    for name, photographs in lists.items():
        targets = _targets(data, name, photographs, preparation)
        lost = pc.is_in(targets, value_set=unreadable)
        readable = photographs.where(~lost.to_numpy(zero_copy_only=False))
        by_landmark = is_by_landmark(source / name)
        for suffix, part in (("", readable), *_split(readable, preparation)):
            if part:
                part_name = f"{Path(name).stem}{suffix}.csv"
                write_list(work / part_name, part, by_landmark=by_landmark)
                sizes[part_name] = len(part)
    if data.layout == "gldv2":
        _copy_other_files(source, work, queries=preparation.queries)
    report = {"pictures": len(pictures), "unreadable": len(unreadable), "lists": sizes}
    write_document(work / "report.json", {VERSION: 1, **report})
    os.sync()  # pictures by the thousand, before the name that says they are complete
    work.rename(out)
    sync_directory(out.parent)
    return {"data": str(out), **report}


def select(photographs: PhotographList, selection: Selection, *, seed: int) -> PhotographList:
    """Select photographs whose landmark is known, in the order given."""
    selected = photographs
    if selection.only_present:
        present = [find_file(photograph.path)[0] >= 0 for photograph in selected]
        selected = selected.where(np.array(present, bool))
    enough = selected.counts() >= selection.at_least
    selected = selected.where(enough[selected.labels])
    subset = SubsetRecipe(landmarks=selection.landmarks, pictures=selection.pictures)
    selected = balanced_subset(selected, subset, seed=seed)
    if selection.total is not None:
        selected = random_subset(selected, selection.total, seed=seed)
    return selected


def _begin(source: Path, out: Path, preparation: Preparation) -> Path:
    """Make the folder to work in, or go on with the one that a killed call left.

    Lists are written when all pictures are there, so they may differ from that call's.
    """
    if out.exists():
        raise CatalogError(out, "it is there already; give the name of a new folder")
    work = out.with_name(f"{out.name}.part")
    options = {"source": str(source.resolve()), **asdict(preparation)}
    for name in ("parts", "max_unreadable"):
        del options[name]
    path = work / "prepare.json"
    if work.exists():
        try:
            begun, _ = read_document(path, "the options of a preparation", newest=1, unversioned=1)
        except ArtifactMissingError:
            begun = {}
        begun.pop(VERSION, None)
        if begun != json.loads(json.dumps(options)):
            raise CatalogError(
                work, "it was begun with other options; remove it, or give the same ones again"
            )
    work.mkdir(parents=True, exist_ok=True)
    write_document(path, {VERSION: 1, **options})
    return work


def _select_lists(data: PhotographSet, preparation: Preparation) -> dict[str, PhotographList]:
    """Return the selected pictures of each list, by its file name."""
    lists = {}
    for list_name in preparation.lists or (data.default_list(),):
        photographs = data.gallery(list_name)
        name = Path(list_name or _FOLDERS_LIST).name
        lists[name] = photographs
        if preparation.selection != Selection() or preparation.parts != Parts():
            # a picture of no landmark is only in a list that is taken whole
            lists[name] = select(photographs.known(), preparation.selection, seed=preparation.seed)
        if not lists[name]:
            raise CatalogError(data.directory / name, "no picture of it is left by the selection")
        list(_split(lists[name], preparation))  # raises before the work where there are too few
        _log.info("%s: %d of %d pictures", name, len(lists[name]), len(photographs))
    return lists


def _targets(
    data: PhotographSet, list_name: str, photographs: PhotographList, preparation: Preparation
) -> pa.StringArray:
    """Return where each photograph of a list is copied to, below the new folder."""
    if data.layout == "gldv2":
        return PhotographList(
            photographs.ids, [], photographs.labels, Path(split_of(list_name))
        ).paths()
    # by the id, which may hold an extension: it stays the same
    names = (f"{p.id}{'.jpg' if preparation.copies else p.path.suffix}" for p in photographs)
    return pa.array(names, pa.string(), size=len(photographs))


def _pictures(
    data: PhotographSet, lists: Mapping[str, PhotographList], preparation: Preparation
) -> pa.Table:
    """Return the pictures to copy, each once: ``source`` and ``target``."""
    asked, sources, targets = dict(lists), [], []
    if data.layout == "gldv2" and preparation.queries:
        asked[SOLUTION] = PhotographList.of(Photograph(q.id, q.path, None) for q in data.queries())
    before = defaultdict[str, list[PhotographList]](list)
    for name, listed in asked.items():
        earlier, new = before[split_of(name) if data.layout == "gldv2" else ""], listed
        for other in earlier:
            new = new.where(~other.contains(new.ids))
        earlier.append(listed)
        sources.append(new.paths())
        targets.append(_targets(data, name, new, preparation))
    return pa.table(
        {
            "source": pa.chunked_array(sources, pa.string()),
            "target": pa.chunked_array(targets, pa.string()),
        }
    )


def _copy(pictures: pa.Table, work: Path, preparation: Preparation, workers: int) -> pa.StringArray:
    """Make the copies; return the targets of the pictures that cannot be read.

    Raises:
        CatalogError: They are too many; what was copied stays for the next attempt.
    """
    total, limit = len(pictures), preparation.max_unreadable
    jobs: Iterator[Job] = (
        (Path(source), work / target)
        for batch in pictures.to_batches(_BLOCK_PICTURES)
        for source, target in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    unreadable: dict[int, str] = {}
    with closing(make_copies(jobs, preparation.copies, workers=workers)) as copies:
        for position, reason in tqdm(copies, total=total, unit="picture", desc="prepare"):
            if reason:
                unreadable[position] = reason
            if len(unreadable) > limit * total:
                break
    lost = pictures["target"].take(pa.array([*unreadable], pa.int64())).combine_chunks()
    lines = (
        f"{name}\t{reason}\n"
        for name, reason in zip(lost.to_pylist(), unreadable.values(), strict=True)
    )
    report = work / "unreadable.txt"
    write_atomic(report, "".join(lines).encode())
    if len(unreadable) > limit * total:
        raise CatalogError(
            report,
            f"it names {len(unreadable)} of {total} pictures that cannot be read, more than "
            f"{limit:.1%}; it was given up there",
        )
    return lost


def _split(
    photographs: PhotographList, preparation: Preparation
) -> Iterator[tuple[str, PhotographList]]:
    """Yield each part with the suffix of its list's name."""
    parts, seed = preparation.parts, preparation.seed
    for fold in range(parts.folds):
        recipe = FoldsRecipe(kind="folds", folds=parts.folds, fold=fold, every=1)
        train, left_out = folds_split(photographs, recipe, seed=seed)
        yield f"_fold_{fold}", left_out
        yield f"_without_fold_{fold}", train
    if parts.counts:
        names = ("_train", "_validation", "_test")
        yield from zip(names, counts_split(photographs, parts.counts, seed=seed), strict=True)


def _copy_other_files(source: Path, work: Path, *, queries: bool) -> None:
    """Copy what belongs to the pictures: names, landmarks of the index, authors, solutions."""
    splits = [split for split in SPLIT_FILES if queries or split != "test"]
    names = {ATTRIBUTION, *(name for split in splits for name in SPLIT_FILES[split])}
    for name in sorted(names.difference(GALLERY_LISTS)):
        if (source / name).is_file():
            shutil.copyfile(source / name, work / name)
