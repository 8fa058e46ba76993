"""Make a data folder out of another: fewer pictures, smaller ones, and lists of their parts.

The new folder has the layout of the old one. It is made beside its place, under the name
``OUT.part``, and complete from the moment it has its own; the same call goes on with what a
killed one left there.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from embedder.artifacts.files import sync_directory, write_atomic
from embedder.errors import CatalogError
from photographs import Photograph, PhotographSet, open_data
from photographs.download.published import ATTRIBUTION, CLEAN_LIST, SPLITS, TRAIN_LIST
from photographs.prepare.copies import CopyRecipe, Job, make_copies
from photographs.prepare.split import (
    CountsRecipe,
    FoldsRecipe,
    SubsetRecipe,
    balanced_subset,
    counts_split,
    folds_split,
)

_ALL = "pictures.csv"  # the list of what is taken of folders
_GALLERIES = (CLEAN_LIST, TRAIN_LIST, "index.csv")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pictures of a list are taken: each part narrows what the one before it left.

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
    """Which parts of the taken pictures get lists of their own; their names tell which.

    Attributes:
        folds: So many ``LIST_fold_N.csv``, each with ``LIST_without_fold_N.csv``; 0 makes none.
        counts: Sizes of ``LIST_learned.csv``, ``LIST_kept_back.csv`` and ``LIST_tested.csv``.
    """

    folds: int = 0
    counts: CountsRecipe | None = None


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is to be made of a data folder.

    Attributes:
        lists: Which of its lists to take pictures from; none takes the usual one.
        selection: Which pictures of each list.
        parts: Which further lists to write.
        copies: How pictures are made smaller; ``None`` leaves them as they are.
        queries: Take the labeled test pictures too, all of them.
        seed: Of everything random.
        max_unreadable: Part of the pictures that may be unreadable before it stops.
    """

    lists: tuple[str, ...] = ()
    selection: Selection = Selection()
    parts: Parts = Parts()
    copies: CopyRecipe | None = None
    queries: bool = True
    seed: int = 0
    max_unreadable: float = 0.01


def prepare(
    source: Path, out: Path, preparation: Preparation, *, workers: int = 1
) -> dict[str, Any]:
    """Make the folder.

    Pictures that cannot be read are left out of every list, and named with the reason in
    ``unreadable.txt``.

    Args:
        source: A data folder.
        out: The new one; it must not be there yet.
        preparation: What to make.
        workers: Processes that make copies.

    Returns:
        How many pictures were taken, how many of them cannot be read, and what the lists name.

    Raises:
        CatalogError: The source is faulty, the new folder is there already or begun otherwise,
            nothing is left of the pictures, or too many cannot be read.
        TrainingError: There are too few pictures for the counts.
    """
    data = open_data(source)
    lists = _choose(data, preparation)
    work = _begin(source, out, preparation)
    targets = _targets(data, lists, preparation)
    unreadable = _copy(targets, work, preparation, workers)
    read = {
        name: [photograph for photograph in photographs if photograph.path not in unreadable]
        for name, photographs in lists.items()
    }
    written = _write_lists(work, source, read, preparation)
    if data.layout == "gldv2":
        _copy_beside(source, work, queries=preparation.queries)
    report = {
        "pictures": len(targets),
        "unreadable": len(unreadable),
        "lists": written,
    }
    _finish(work, out, report)
    return {"data": str(out), **report}


def select(
    photographs: Sequence[Photograph], selection: Selection, *, seed: int
) -> list[Photograph]:
    """Take the pictures that are asked for, in the order given."""
    taken = list(photographs)
    if selection.only_present:
        taken = [photograph for photograph in taken if photograph.path.is_file()]
    sizes = Counter(photograph.landmark_id for photograph in taken)
    taken = [
        photograph for photograph in taken if sizes[photograph.landmark_id] >= selection.at_least
    ]
    subset = SubsetRecipe(landmarks=selection.landmarks, pictures=selection.pictures)
    taken = balanced_subset(taken, subset, seed=seed)
    if selection.total is not None:
        order = np.random.default_rng(seed).permutation(len(taken))[: selection.total]
        taken = [taken[position] for position in sorted(order.tolist())]
    return taken


def _begin(source: Path, out: Path, preparation: Preparation) -> Path:
    """Make the folder to work in, or take up the one that a call for the same pictures left.

    Lists are written when all pictures are there, so those may be others.
    """
    if out.exists():
        raise CatalogError(out, "it is there already; give the name of a new folder")
    work = out.with_name(f"{out.name}.part")
    asked = {"source": str(source.resolve()), **asdict(preparation)}
    for name in ("parts", "max_unreadable"):
        del asked[name]
    text = json.dumps(asked, indent=2) + "\n"
    note = work / "prepare.json"
    if not work.exists():
        work.mkdir(parents=True)
    elif not note.exists() or note.read_text(encoding="utf-8") != text:
        raise CatalogError(
            work, "it was begun with other options; remove it, or give the same ones again"
        )
    write_atomic(note, text.encode())
    return work


def _choose(data: PhotographSet, preparation: Preparation) -> dict[str, list[Photograph]]:
    """Give the chosen pictures of each list, by its name; folders without one get one."""
    names: tuple[str | None, ...] = preparation.lists
    if not names:
        names = (None,) if data.layout == "folders" else _usual(data.directory)
    chosen = {Path(name or _ALL).name: data.gallery(name) for name in names}
    lists = {}
    for name, photographs in chosen.items():
        lists[name] = _narrow(photographs, preparation)
        if not lists[name]:
            raise CatalogError(data.directory / name, "no picture of it is left by the selection")
        list(_parts(lists[name], preparation))  # too few for them is told before the work
        _log.info("%s: %d of %d pictures", name, len(lists[name]), len(photographs))
    return lists


def _narrow(photographs: list[Photograph], preparation: Preparation) -> list[Photograph]:
    """Select; pictures of no landmark are only in a list that is taken whole."""
    if preparation.selection == Selection() and preparation.parts == Parts():
        return photographs
    known = [photograph for photograph in photographs if photograph.landmark_id is not None]
    return select(known, preparation.selection, seed=preparation.seed)


def _usual(source: Path) -> tuple[str, ...]:
    return tuple(name for name in _GALLERIES if (source / name).is_file())[:1] or (TRAIN_LIST,)


def _targets(
    data: PhotographSet, lists: Mapping[str, list[Photograph]], preparation: Preparation
) -> dict[Path, str]:
    """Say which file goes where below the new folder; each once."""
    targets = {}
    for photograph in (photograph for chosen in lists.values() for photograph in chosen):
        if data.layout == "folders":  # by the id, which may hold an extension: it stays the same
            suffix = ".jpg" if preparation.copies else photograph.path.suffix
            targets[photograph.path] = f"{photograph.id}{suffix}"
        else:
            targets[photograph.path] = photograph.path.relative_to(data.directory).as_posix()
    if data.layout == "gldv2" and preparation.queries:
        for query in data.queries():
            targets[query.path] = query.path.relative_to(data.directory).as_posix()
    return targets


def _copy(
    targets: Mapping[Path, str], work: Path, preparation: Preparation, workers: int
) -> dict[Path, str]:
    """Make the copies; return why each picture that cannot be read cannot.

    Raises:
        CatalogError: They are too many; what was copied stays for the next attempt.
    """
    jobs: list[Job] = [(path, work / name) for path, name in targets.items()]
    report, limit = work / "unreadable.txt", preparation.max_unreadable
    unreadable: dict[Path, str] = {}
    with closing(make_copies(jobs, preparation.copies, workers=workers)) as copies:
        for position, reason in tqdm(copies, total=len(jobs), unit="picture", desc="prepare"):
            if reason:
                unreadable[jobs[position][0]] = reason
            if len(unreadable) > limit * len(jobs):
                break
    lines = (f"{targets[path]}\t{why}\n" for path, why in unreadable.items())
    write_atomic(report, "".join(lines).encode())
    if len(unreadable) > limit * len(jobs):
        raise CatalogError(
            report,
            f"it names {len(unreadable)} of {len(jobs)} pictures that cannot be read, more than "
            f"{limit:.1%}; it was given up there",
        )
    return unreadable


def _write_lists(
    work: Path,
    source: Path,
    lists: Mapping[str, Sequence[Photograph]],
    preparation: Preparation,
) -> dict[str, int]:
    """Write lists and those of their parts that are not empty; return how many each names."""
    texts, sizes = {}, {}
    for name, photographs in lists.items():
        to_text = _list_by_landmark if _is_clean(source / name) else _list_by_picture
        for suffix, part in (("", photographs), *_parts(photographs, preparation)):
            if part:
                part_name = f"{Path(name).stem}{suffix}.csv"
                texts[part_name], sizes[part_name] = to_text(part), len(part)
    for name, text in texts.items():
        write_atomic(work / name, text.encode())
    return sizes


def _parts(
    photographs: Sequence[Photograph], preparation: Preparation
) -> Iterator[tuple[str, Sequence[Photograph]]]:
    parts, seed = preparation.parts, preparation.seed
    for fold in range(parts.folds):
        recipe = FoldsRecipe(kind="folds", folds=parts.folds, fold=fold, every=1)
        learned, left_out = folds_split(photographs, recipe, seed=seed)
        yield f"_fold_{fold}", left_out
        yield f"_without_fold_{fold}", learned
    if parts.counts:
        names = ("_learned", "_kept_back", "_tested")
        yield from zip(names, counts_split(photographs, parts.counts, seed=seed), strict=True)


def _list_by_landmark(photographs: Sequence[Photograph]) -> str:
    by_landmark: dict[str, list[str]] = {}
    for photograph in photographs:
        by_landmark.setdefault(str(photograph.landmark_id), []).append(photograph.id)
    lines = (f"{landmark},{' '.join(names)}\n" for landmark, names in by_landmark.items())
    return "landmark_id,images\n" + "".join(lines)


def _list_by_picture(photographs: Sequence[Photograph]) -> str:
    """Write ``id,url,landmark_id``, or ``id`` alone where not every landmark is known."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    if all(photograph.landmark_id is not None for photograph in photographs):
        rows.writerow(("id", "url", "landmark_id"))
        rows.writerows((p.id, "", p.landmark_id) for p in photographs)
    else:
        rows.writerow(("id",))
        rows.writerows((p.id,) for p in photographs)
    return buffer.getvalue()


def _is_clean(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig") as lines:
        return next(lines, "").startswith("landmark_id,images")


def _copy_beside(source: Path, work: Path, *, queries: bool) -> None:
    """Copy what belongs to the pictures: names, landmarks of the index, authors, solutions."""
    splits = [split for split in SPLITS.values() if queries or split.name != "test"]
    addresses = [address for split in splits for address in split.lists]
    names = {address.rsplit("/", 1)[-1] for address in (*addresses, ATTRIBUTION)}
    for name in sorted(names - set(_GALLERIES)):
        if (source / name).is_file():
            shutil.copyfile(source / name, work / name)


def _finish(work: Path, out: Path, report: Mapping[str, Any]) -> None:
    """Give the folder its name, with all that is in it on the disk."""
    write_atomic(work / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    os.sync()  # pictures by the thousand, before the name that says they are complete
    work.rename(out)
    sync_directory(out.parent)
