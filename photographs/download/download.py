"""Bring Google Landmarks v2 onto a disk: lists in place, pictures out of their tars.

::

    OUT/train_clean.csv …               lists, each in place once it is whole
    OUT/train/a/b/c/abc….jpg            pictures
    OUT/tars/train/images_000.tar.part  a tar that is arriving
    OUT/tars/train/images_000.tar       one whose md5 is right; removed once its pictures are out
    OUT/tars/train/images_000.done      what came out of it; it is not asked for again

Every step can be cut off, by kill -9 too: the same order goes on from there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import heapq
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from embedder.artifacts.files import write_atomic
from embedder.errors import DownloadError
from photographs import listed_ids
from photographs.download.fetch import Line, Patience, StoppedError, discard, part_of, place
from photographs.download.published import (
    ATTRIBUTION,
    CLEAN_SHARE,
    SOURCE,
    SPLITS,
    Pictures,
    Split,
    lists_of,
    md5_address,
    tar_address,
)
from photographs.download.unpack import unpack

BLOCKS = 1.05
"""Room that pictures take on a disk, where the last block of each is not full, per byte."""

_MD5 = re.compile(r"\s*([0-9a-fA-F]{32})\b")
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be brought.

    Attributes:
        splits: Names of parts: ``train``, ``index``, ``test``.
        pictures: Of the training pictures those of the clean list, or all.
        tars: Numbers of the tars of each split; ``None`` takes all.
        attribution: Bring the authors and licenses of the training pictures too.
        keep_tars: Do not remove a tar once its pictures are out.
        source: Address of the data set.
        connections: Files at a time.
    """

    splits: tuple[str, ...] = ("train",)
    pictures: Pictures = "clean"
    tars: tuple[int, ...] | None = None
    attribution: bool = False
    keep_tars: bool = False
    source: str = SOURCE
    connections: int = 8

    def is_clean(self, split: Split) -> bool:
        """Tell whether only the pictures of the clean list are taken out of a split's tars."""
        return self.pictures == "clean" and split.name == "train"


@dataclass(frozen=True, slots=True)
class _Tar:
    """A tar: where it is published, and where it lies here."""

    split: Split
    number: int
    out: Path

    @property
    def address(self) -> str:
        return tar_address(self.split, self.number)

    @property
    def path(self) -> Path:
        return self.out / "tars" / self.address

    @property
    def mark(self) -> Path:
        return self.path.with_suffix(".done")


def download(order: Order, out: Path, patience: Patience) -> dict[str, Any]:
    """Bring what is ordered, or what is still missing of it.

    A tar that fails does not keep the others from coming; a list that fails does, as it comes
    first and the tars are long.

    Args:
        order: What to bring.
        out: Folder of the data set; made if it is not there.
        patience: With the server.

    Returns:
        Of each split how many tars are unpacked, how many pictures came out of them, and how
        many pictures its list names.

    Raises:
        DownloadError: There is too little room, another download is at work in the folder, or
            files could not be brought: every one is named with its reason.
        CatalogError: The clean list is faulty.
    """
    tars = _ordered_tars(order, out)
    missing = [tar for tar in tars if not _is_done(tar, order)]
    lists = {address: out / _last_name(address) for address in _ordered_lists(order)}
    lists = {address: path for address, path in lists.items() if not path.exists()}
    with (
        _locked(out),
        tqdm(unit="B", unit_scale=True, desc="download") as bar,
        closing(Line(order.source, order.connections, patience, _adder(bar))) as line,
    ):
        work = _Work(order, line)
        targets = lists | {tar.address: tar.path for tar in missing}
        sizes = work.each({name: partial(line.ask_bytes, name) for name in targets})
        _demand_room(order, out, sizes, missing)
        bar.reset(sum(sizes.values()))
        bar.update(sum(_arrived(targets[name]) for name in sizes))
        work.each({n: partial(_bring_list, line, n, lists[n]) for n in lists if n in sizes})
        _demand_none(work, [name for name in lists if name in work.failures])
        wanted = listed_ids(out / "train_clean.csv") if _any_clean(order, missing) else None
        unpacking = _Unpacking(order, line, wanted)
        work.each({t.address: partial(unpacking.bring, t) for t in missing if t.address in sizes})
    _demand_none(work, list(work.failures))
    return {"data": str(out)} | {name: _count(order, out, name, tars) for name in order.splits}


class _Work:
    """Jobs on several files at a time; what fails is noted by the file's name."""

    def __init__(self, order: Order, line: Line) -> None:
        self._threads = order.connections
        self._line = line
        self.failures: dict[str, str] = {}

    def each(self, jobs: Mapping[str, Callable[[], _T]]) -> dict[str, _T]:
        """Do every job; return the results of those that did not fail."""
        results: dict[str, _T] = {}
        with ThreadPoolExecutor(self._threads) as pool:
            names = {pool.submit(job): name for name, job in jobs.items()}
            try:
                for future in as_completed(names):
                    try:
                        results[names[future]] = future.result()
                    except StoppedError:
                        continue  # a full disk stops them all, and is noted once
                    except (DownloadError, OSError) as error:
                        self._fail(names[future], error)
            except BaseException:
                self._line.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return results

    def _fail(self, name: str, error: DownloadError | OSError) -> None:
        reason = str(error)
        if isinstance(error, OSError):
            reason = error.strerror or reason
            if error.errno in _FULL_DISK:
                self._line.stop()
        _log.error("%s: %s", name, reason)
        self.failures[name] = reason


@dataclass(frozen=True, slots=True)
class _Unpacking:
    """How tars become pictures."""

    order: Order
    line: Line
    wanted: frozenset[str] | None

    def bring(self, tar: _Tar) -> None:
        """Bring a tar, prove it, take its pictures out and note that."""
        expected = _md5_in(self.line.read_text(md5_address(tar.split, tar.number)))
        tar.path.parent.mkdir(parents=True, exist_ok=True)
        if not tar.path.exists() or _md5_of(tar.path) != expected:
            _fetch_proved(self.line, tar, expected)
        clean = self.order.is_clean(tar.split)
        pictures = unpack(
            tar.path,
            tar.out / tar.split.name,
            wanted=self.wanted if clean else None,
            before_each=self.line.demand_going,
        )
        os.sync()  # the pictures, by the thousand, before the mark that says they are there
        fields = {"md5": expected, "clean": clean, "pictures": pictures}
        write_atomic(tar.mark, json.dumps(fields).encode())
        if not self.order.keep_tars:
            tar.path.unlink()
        _log.info("%s: %d pictures", tar.address, pictures)


def _fetch_proved(line: Line, tar: _Tar, expected: str) -> None:
    """Bring a tar in place if its md5 is right.

    One that was put together of several transfers and came out wrong is brought once more.

    Raises:
        DownloadError: Its md5 is wrong, and nothing of it is kept; or it cannot be brought.
    """
    whole = False
    while not whole:
        whole = line.fetch(tar.address, tar.path)
        found = _md5_of(part_of(tar.path))
        if found == expected:
            place(tar.path)
            return
        discard(tar.path)
    raise DownloadError(f"its md5 is {found} and should be {expected}")


def _bring_list(line: Line, address: str, path: Path) -> None:
    line.fetch(address, path)
    place(path)


def _ordered_tars(order: Order, out: Path) -> list[_Tar]:
    return [
        _Tar(split, number, out)
        for split in (SPLITS[name] for name in order.splits)
        for number in (range(split.tars) if order.tars is None else order.tars)
    ]


def _ordered_lists(order: Order) -> list[str]:
    lists = [a for name in order.splits for a in lists_of(SPLITS[name], order.pictures)]
    return lists + [ATTRIBUTION] * order.attribution


def _any_clean(order: Order, tars: list[_Tar]) -> bool:
    return any(order.is_clean(tar.split) for tar in tars)


def _is_done(tar: _Tar, order: Order) -> bool:
    """Tell whether all that is wanted of a tar came out of it."""
    done = _read_mark(tar)
    return bool(done) and (order.is_clean(tar.split) or not done["clean"])


def _read_mark(tar: _Tar) -> dict[str, Any]:
    """Read what came out of a tar; nothing if it was not unpacked."""
    try:
        fields: dict[str, Any] = json.loads(tar.mark.read_bytes())
    except FileNotFoundError:
        return {}
    return fields


def _demand_room(order: Order, out: Path, sizes: Mapping[str, int], tars: list[_Tar]) -> None:
    """Refuse to begin what the disk cannot hold.

    Of the clean pictures only their share of a tar is counted. Tars that are not kept need room
    while they are unpacked, as many as there are connections.
    """
    brought = {t.address: sizes[t.address] - _arrived(t.path) for t in tars if t.address in sizes}
    held = len(brought) if order.keep_tars else order.connections
    unpacked = sum(
        sizes[tar.address] * BLOCKS * (CLEAN_SHARE if order.is_clean(tar.split) else 1.0)
        for tar in tars
        if tar.address in sizes
    )
    lists = sum(size for name, size in sizes.items() if name not in brought)
    needed, free = (
        lists + sum(heapq.nlargest(held, brought.values())) + unpacked,
        shutil.disk_usage(out).free,
    )
    if needed > free:
        raise DownloadError(
            f"{out} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; "
            "order fewer splits or tars, or another folder"
        )


def _demand_none(work: _Work, failed: list[str]) -> None:
    if failed:
        raise DownloadError(
            f"{len(failed)} of the files could not be brought; the same command tries again",
            {name: work.failures[name] for name in sorted(failed)},
        )


def _count(order: Order, out: Path, name: str, tars: list[_Tar]) -> dict[str, int]:
    """Count what is there of a split; say so if its list names more."""
    split = SPLITS[name]
    marks = [_read_mark(tar) for tar in tars if tar.split is split]
    pictures = sum(mark["pictures"] for mark in marks)
    listed = _count_listed(out / _last_name(lists_of(split, order.pictures)[0]))
    if len(marks) < split.tars:
        _log.info(
            "the lists of %s name pictures of tars that were not ordered; "
            "`cairn-train prepare --only-present` makes lists of those that are there",
            name,
        )
    elif pictures < listed:
        _log.warning("%d pictures of %s were in no tar", listed - pictures, name)
    return {"tars": len(marks), "pictures": pictures, "listed": listed}


def _count_listed(path: Path) -> int:
    """Count the pictures that a list names, of whichever form, without holding it."""
    with path.open(encoding="utf-8") as lines:
        by_landmark = next(lines, "").startswith("landmark_id,images")
        return sum(line.count(" ") + 1 if by_landmark else 1 for line in lines if line.strip())


def _arrived(target: Path) -> int:
    """Give how many bytes of a file are there."""
    for path in (target, part_of(target)):
        if path.exists():
            return path.stat().st_size
    return 0


def _md5_in(text: str) -> str:
    found = _MD5.match(text)
    if not found:
        raise DownloadError("the file that should hold its md5 does not")
    return found[1].lower()


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _last_name(address: str) -> str:
    return address.rsplit("/", 1)[-1]


def _adder(bar: tqdm[Any]) -> Callable[[int], None]:
    """Let several threads move a bar."""
    lock = threading.Lock()

    def add(number: int) -> None:
        with lock:
            bar.update(number)

    return add


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
