"""A real HTTP server with the official layout of Google Landmarks v2, and ways to misbehave."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.factories import picture_bytes


@dataclass
class Server:
    """What is served, and how badly.

    Attributes:
        files: Content by address.
        ranges: Whether ``Range`` is understood.
        cut: Asked before each answer with the address and how many bytes it has; the connection
            is cut after so many bytes, ``None`` lets it be.
        status: Answers of these addresses that come, one after the other, before the file.
        lies: Sizes told at ``HEAD`` that are not true.
        bytes_per_second: Of each answer; ``None`` is as fast as it goes.
        requests: Method, address and ``Range`` of all that was asked.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: Callable[[str, int], int | None] = lambda address, total: None
    status: dict[str, list[int]] = field(default_factory=dict)
    lies: dict[str, int] = field(default_factory=dict)
    bytes_per_second: int | None = None
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def asked(self, address: str, method: str = "GET") -> list[str]:
        """Give the ranges that were asked of a file."""
        return [r for m, name, r in self.requests if (m, name) == (method, address)]

    def add_tar(self, split: str, number: int, content: bytes) -> None:
        """Publish a tar with its md5."""
        name = f"images_{number:03d}.tar"
        self.files[f"{split}/{name}"] = content
        self.files[f"md5sum/{split}/md5.{name[:-4]}.txt"] = (
            f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {name}\n".encode()
        )


def tar_of(members: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """Make a tar of files, with the folders above them as tar makes them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folders = sorted({part for name in members for part in _above(name)})
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in more:
            archive.addfile(entry)
    return buffer.getvalue()


def landmarks_server(*, tars: int = 3, pictures: int = 6) -> tuple[Server, dict[str, bytes]]:
    """Publish small training, index and test parts.

    Returns:
        The server's content, and every picture by its path below the data folder. Of the
        training pictures every second one is clean.
    """
    server = Server()
    paths: dict[str, bytes] = {}
    rng = np.random.default_rng(3)
    ids: dict[str, list[str]] = {}
    for split in ("train", "index", "test"):
        ids[split] = []
        for number in range(tars if split == "train" else 1):
            members = {}
            for _ in range(pictures):
                name = rng.bytes(8).hex()
                path = f"{name[0]}/{name[1]}/{name[2]}/{name}.jpg"
                members[path] = paths[f"{split}/{path}"] = picture_bytes(len(paths), side=96)
                ids[split].append(name)
            server.add_tar(split, number, tar_of(members))
    _add_lists(server, ids)
    return server, paths


def _add_lists(server: Server, ids: dict[str, list[str]]) -> None:
    train = "".join(f"{name},,{n % 2}\n" for n, name in enumerate(ids["train"]))
    lists = {
        "metadata/train.csv": "id,url,landmark_id\n" + train,
        "metadata/train_clean.csv": "landmark_id,images\n0," + " ".join(ids["train"][::2]) + "\n",
        "metadata/train_label_to_category.csv": "landmark_id,category\n0,zero\n1,one\n",
        "metadata/train_attribution.csv": "id,url,author,license,title\n",
        "metadata/index.csv": "id\n" + "".join(f"{name}\n" for name in ids["index"]),
        "metadata/index_image_to_landmark.csv": "id,landmark_id\n",
        "metadata/index_label_to_category.csv": "landmark_id,category\n",
        "metadata/test.csv": "id\n" + "".join(f"{name}\n" for name in ids["test"]),
        "ground_truth/recognition_solution_v2.1.csv": "id,landmarks,Usage\n",
        "ground_truth/retrieval_solution_v2.1.csv": "id,images,Usage\n",
    }
    server.files |= {address: text.encode() for address, text in lists.items()}


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Serve until the block ends."""

    class Handler(_Handler):
        content = server

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/google-landmark"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content: Server

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""

    def _answer(self, *, head: bool) -> None:
        server = self.content
        address = self.path.removeprefix("/google-landmark/")
        asked = self.headers.get("Range", "")
        server.requests.append((self.command, address, asked))
        status = server.status.get(address, [])
        if address not in server.files or (status and not head):
            self.send_response(status.pop(0) if status else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = server.files[address]
        start = int((re.match(r"bytes=(\d+)-", asked) or "00")[1])
        known = server.ranges and asked
        start = start if known else 0
        self.send_response(206 if known else 200)
        if known:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        length = len(content) - start
        self.send_header(
            "Content-Length", str(server.lies.get(address, length) if head else length)
        )
        self.end_headers()
        if not head:
            self._send(address, content[start:])

    def _send(self, address: str, content: bytes) -> None:
        server = self.content
        end = server.cut(address, len(content))
        rest = memoryview(content)[:end]
        step = 4096 if server.bytes_per_second else len(rest)
        try:
            for start in range(0, len(rest), step or 1):
                self.wfile.write(rest[start : start + step])
                if server.bytes_per_second:
                    time.sleep(step / server.bytes_per_second)
        except (BrokenPipeError, ConnectionResetError):
            end = 0
        if end is not None:
            self.close_connection = True


def _above(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
