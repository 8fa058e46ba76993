"""The stages of the service, for other servers to call: one picture or batch in one thread."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from embedder.embedder import Embedder
from index.gallery.gallery import Gallery
from service.inference.pipeline import Pipeline
from service.inference.recognizer import Recognizer
from service.inference.tasks import Task

EMBEDDER, STORE = "PEER_EMBEDDER", "PEER_STORE"
"""Environment variables that name the artifacts: a server starts its workers in its own way."""


def _go_on() -> None:
    """Let a task go on."""


class Stages:
    """Decoding, network and search, as a worker of the service runs them."""

    def __init__(self) -> None:
        embedder = Embedder.load(Path(os.environ[EMBEDDER]), threads=1)
        gallery = Gallery.open(Path(os.environ[STORE]), embedder_digest=embedder.digest, threads=1)
        gallery.expect_disk(expected=False)
        self._pipeline = Pipeline(Recognizer(embedder, gallery))

    def answer(self, pictures: Sequence[bytes]) -> list[bytes]:
        """Answer pictures as one batch, each by a line of JSON."""
        tasks = [Task((data,)) for data in pictures]
        results, _ = self._pipeline.perform(tasks, [_go_on] * len(tasks))
        return [_json(result) for result in results]


def _json(result: object) -> bytes:
    if isinstance(result, Exception):
        return json.dumps({"error": str(result)}).encode()
    return result.model_dump_json().encode()  # type: ignore[attr-defined,no-any-return] # an answer
