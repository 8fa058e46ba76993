"""Download Google Landmarks v2: lists in place, pictures out of their tars.

::

    OUT/train_clean.csv …               lists, each in place once it is whole
    OUT/train/a/b/c/abc….jpg            pictures
    OUT/tars/train/images_000.tar.part  a tar that is arriving
    OUT/tars/train/images_000.tar       one whose md5 is right; removed once it is unpacked
    OUT/tars/train/images_000.done      its md5 and how many pictures came out of it
    OUT/train/images_000.tar            a tar that is not unpacked

Every step can be cut off, by kill -9 too: the same command goes on from there.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from embedder.artifacts.documents import read_document, write_document
from embedder.errors import ArtifactMissingError, DownloadError
from photographs.download.published import (
    CLEAN_SHARE,
    SOURCE,
    TARS,
    Pictures,
    file_address,
    lists_of,
    md5_address,
    tar_address,
)
from photographs.download.transfer import (
    RetryPolicy,
    Server,
    StoppedError,
    md5_of,
    part_of,
    size_of,
)
from photographs.download.unpack import count_pictures, unpack
from photographs.gldv2 import ATTRIBUTION, CLEAN_LIST, listed_ids
from photographs.lists import is_by_landmark

BLOCKS = 1.05
"""Disk space of pictures per byte: the last block of each is not full."""

_MD5 = re.compile(r"\s*([0-9a-fA-F]{32})\b")
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """What to download.

    Attributes:
        splits: Names of splits: ``train``, ``index``, ``test``.
        pictures: Of the training pictures those of the clean list, or all.
        tars: Numbers of the tars of each split; ``None`` takes all.
        attribution: Download the authors and licenses of the training pictures too.
        keep_tars: Do not remove a tar once it is unpacked.
        packed: Do not unpack tars; they come to where pictures are read from them.
        source: Base address of the data set.
        connections: Files at a time.
    """

    splits: tuple[str, ...] = ("train",)
    pictures: Pictures = "clean"
    tars: tuple[int, ...] | None = None
    attribution: bool = False
    keep_tars: bool = False
    packed: bool = False
    source: str = SOURCE
    connections: int = 8


@dataclass(frozen=True, slots=True)
class _Tar:
    """A tar: where it is published, and where it lies here.

    Attributes:
        clean: Of its pictures only those of the clean list are taken.
        packed: It is not unpacked.
    """

    split: str
    number: int
    out: Path
    clean: bool
    packed: bool

    @property
    def address(self) -> str:
        return tar_address(self.split, self.number)

    @property
    def path(self) -> Path:
        return (self.out if self.packed else self.out / "tars") / self.address

    @property
    def mark(self) -> Path:
        return (self.out / "tars" / self.address).with_suffix(".done")

    def read_mark(self) -> dict[str, Any]:
        """Read what came out of the tar; empty where it is not unpacked."""
        try:
            return read_document(self.mark, "the mark of a tar", newest=1, unversioned=1)[0]
        except ArtifactMissingError:
            return {}

    def is_done(self) -> bool:
        """Tell whether the tar is in place, or all that is wanted of it came out of it."""
        mark = self.read_mark()
        if not mark or mark.get("packed", False) != self.packed:
            return False
        return self.path.exists() if self.packed else self.clean or not mark["clean"]


def download(plan: DownloadPlan, out: Path, retry: RetryPolicy) -> dict[str, Any]:
    """Download what is planned, or what is still missing of it.

    A tar that fails does not keep the others from coming; a list that fails does, as it comes
    first and the tars are long.

    Args:
        plan: What to download.
        out: Folder of the data set; made if it is not there.
        retry: When to give the server up.

    Returns:
        Of each split how many tars are unpacked, how many pictures came out of them, and how
        many pictures its list names.

    Raises:
        DownloadError: There is too little disk space, another download is at work in the folder,
            or files failed: every one is named with its reason.
        CatalogError: The clean list is faulty.
    """
    clean = plan.pictures == "clean" and not plan.packed
    tars = [
        _Tar(split, number, out, clean=clean and split == "train", packed=plan.packed)
        for split in plan.splits
        for number in (range(TARS[split]) if plan.tars is None else plan.tars)
    ]
    names = [name for split in plan.splits for name in lists_of(split, plan.pictures)]
    names += [ATTRIBUTION] * plan.attribution
    lists = {file_address(name): out / name for name in names if not (out / name).exists()}
    with (
        _locked(out),
        tqdm(unit="B", unit_scale=True, desc="download") as bar,
        closing(Server(plan.source, plan.connections, retry, bar.update)) as server,
    ):
        jobs = _Jobs(plan.connections, server)
        _download(plan, out, lists, [tar for tar in tars if not tar.is_done()], jobs, bar)
    return {"data": str(out)} | {split: _count(plan, out, split, tars) for split in plan.splits}


class _Jobs:
    """Runs jobs on several files at a time and collects failures by the file's address."""

    def __init__(self, threads: int, server: Server) -> None:
        self._threads = threads
        self.server = server
        self._failures: dict[str, str] = {}

    def run(self, jobs: Mapping[str, Callable[[], _T]]) -> dict[str, _T]:
        """Run every job; return the results of those that did not fail."""
        results: dict[str, _T] = {}
        with ThreadPoolExecutor(self._threads) as pool:
            addresses = {pool.submit(job): address for address, job in jobs.items()}
            try:
                for future in as_completed(addresses):
                    try:
                        results[addresses[future]] = future.result()
                    except StoppedError:
                        continue  # a full disk stops them all, and is reported once
                    except (DownloadError, OSError) as error:
                        self._fail(addresses[future], error)
            except BaseException:
                self.server.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return results

    def check(self, addresses: Iterable[str]) -> None:
        """Raise an error that names those of ``addresses`` that failed."""
        failed = {a: self._failures[a] for a in sorted(addresses) if a in self._failures}
        if failed:
            reason = "of the files could not be downloaded; the same command tries again"
            raise DownloadError(f"{len(failed)} {reason}", failed)

    def _fail(self, address: str, error: DownloadError | OSError) -> None:
        reason = str(error)
        if isinstance(error, OSError):
            reason = error.strerror or reason
            if error.errno in _FULL_DISK:
                self.server.stop()
        _log.error("%s: %s", address, reason)
        self._failures[address] = reason


def _download(
    plan: DownloadPlan,
    out: Path,
    lists: Mapping[str, Path],
    tars: list[_Tar],
    jobs: _Jobs,
    bar: tqdm[Any],
) -> None:
    server, targets = jobs.server, {**lists, **{tar.address: tar.path for tar in tars}}
    sizes = jobs.run({address: partial(server.size, address) for address in targets})
    tars = [tar for tar in tars if tar.address in sizes]
    _check_disk_space(plan, out, tars, sizes)
    bar.reset(sum(sizes.values()))
    bar.update(sum(_arrived(targets[address]) for address in sizes))
    jobs.run({a: partial(server.fetch, a, path) for a, path in lists.items() if a in sizes})
    jobs.check(lists)
    clean = listed_ids(out / CLEAN_LIST) if any(tar.clean for tar in tars) else frozenset()
    keep = plan.keep_tars
    jobs.run({t.address: partial(_bring, t, server, clean, keep_tar=keep) for t in tars})
    jobs.check(targets)


def _bring(tar: _Tar, server: Server, clean: frozenset[str], *, keep_tar: bool) -> None:
    """Download a tar, check its md5, unpack its pictures unless it is packed; write its mark."""
    published = _MD5.match(server.read_text(md5_address(tar.split, tar.number)))
    if not published:
        raise DownloadError("the file that should hold its md5 does not")
    md5 = published[1].lower()
    for folder in (tar.path.parent, tar.mark.parent):
        folder.mkdir(parents=True, exist_ok=True)
    if not tar.path.exists() or md5_of(tar.path) != md5:
        server.fetch(tar.address, tar.path, md5=md5)
    if tar.packed:
        pictures = count_pictures(tar.path)
    else:
        wanted = clean if tar.clean else None
        pictures = unpack(tar.path, tar.out / tar.split, wanted, before_each=server.check_stopped)
        os.sync()  # the pictures, by the thousand, before the mark that says they are there
    mark = {"schema_version": 1, "md5": md5, "clean": tar.clean, "pictures": pictures}
    write_document(tar.mark, mark | ({"packed": True} if tar.packed else {}))
    if not (keep_tar or tar.packed):
        tar.path.unlink()
    _log.info("%s: %d pictures", tar.address, pictures)


def _check_disk_space(
    plan: DownloadPlan, out: Path, tars: list[_Tar], sizes: Mapping[str, int]
) -> None:
    """Refuse to begin what the disk cannot hold.

    Of the clean pictures only their share of a tar is counted. Tars that are not kept need space
    while they are unpacked, as many as there are connections.
    """
    lists = sum(sizes.values()) - sum(sizes[tar.address] for tar in tars)
    missing = [sizes[tar.address] - _arrived(tar.path) for tar in tars]
    kept = plan.keep_tars or plan.packed
    held = heapq.nlargest(len(tars) if kept else plan.connections, missing)
    unpacked = [] if plan.packed else tars
    pictures = sum(sizes[tar.address] * (CLEAN_SHARE if tar.clean else 1.0) for tar in unpacked)
    needed, free = lists + sum(held) + BLOCKS * pictures, shutil.disk_usage(out).free
    if needed > free:
        raise DownloadError(
            f"{out} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; "
            "choose fewer splits or tars, or another folder"
        )


def _count(plan: DownloadPlan, out: Path, split: str, tars: list[_Tar]) -> dict[str, int]:
    """Count the pictures of a split; log where its list names more."""
    marks = [tar.read_mark() for tar in tars if tar.split == split]
    pictures = sum(mark["pictures"] for mark in marks)
    listed = _count_listed(out / lists_of(split, plan.pictures)[0])
    if len(marks) < TARS[split]:
        _log.info(
            "the lists of %s name pictures of tars that were not chosen; "
            "`cairn-train prepare --only-present` makes lists of those that are there",
            split,
        )
    elif pictures < listed:
        _log.warning("%d pictures of %s were in no tar", listed - pictures, split)
    return {"tars": len(marks), "pictures": pictures, "listed": listed}


def _count_listed(path: Path) -> int:
    """Count the pictures of a list of either form, without holding it."""
    by_landmark = is_by_landmark(path)
    with path.open(encoding="utf-8") as lines:
        next(lines, "")
        return sum(line.count(" ") + 1 if by_landmark else 1 for line in lines if line.strip())


def _arrived(target: Path) -> int:
    """Return how many bytes of a file are there."""
    return size_of(target) or size_of(part_of(target))


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep a second download out of the folder; the system frees it however this one ends."""
    (out / "tars").mkdir(parents=True, exist_ok=True)
    with (out / "tars" / ".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"another download is at work in {out}") from error
        yield
