"""Every command that changes a store, killed without warning at random moments."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from index.building.embedder_choice import EmbedderChoice
from index.gallery.manifest import GalleryManifest, read_manifest
from index.gallery.store import Store
from index.maintenance.add import add
from index.maintenance.history import list_builds
from index.maintenance.remove import remove
from index.maintenance.verify import verify
from photographs import open_data
from tests.conftest import ROOT
from tests.factories import photographs, tiny_embedder, view_bytes

COMMANDS = ("build", "add", "remove", "rebuild", "gc")
KILLS = (
    *(pytest.param(command, 1, id=command) for command in COMMANDS),
    *(pytest.param(command, 6, id=f"{command}-6", marks=pytest.mark.full) for command in COMMANDS),
)
"""How often each command is killed: thirty times in all where there is time."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A store with some history, and what each command is given.

    Attributes:
        root: Holds ``store``, which nobody changes, and the folders of photographs.
        words: What follows ``--store`` in each command.
    """

    root: Path
    words: dict[str, list[str]]

    def copy(self, target: Path) -> Path:
        """Copy the store and return where."""
        return Path(shutil.copytree(self.root / "store", target))

    def start(self, command: str, store: Path) -> subprocess.Popen[str]:
        """Start a command."""
        asked = [sys.executable, "-m", "index", command, "--store", str(store)]
        return subprocess.Popen(
            [*asked, *self.words[command]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def finish(self, command: str, store: Path) -> dict[str, object]:
        """Run a command to its end and return what it says."""
        with self.start(command, store) as process:
            written, errors = process.communicate()
        assert process.returncode == 0, errors
        said: dict[str, object] = json.loads(written)
        return said


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Build, add and remove, so that there are three builds; then change some pictures."""
    root = tmp_path_factory.mktemp("scene")
    embedder = tiny_embedder(root / "embedder")
    data = photographs(root / "data", landmarks=6, views=60)
    more = photographs(root / "more", landmarks=8, views=30)
    for known in range(6):
        shutil.rmtree(more / f"landmark-{known}")
    made = ["--embedder", str(embedder), "--threads", "1"]
    scene = Scene(
        root,
        {
            "build": [*made, "--data", str(data)],
            "add": [*made, "--data", str(root / "new")],
            "remove": ["--landmarks", "landmark-1", "--pictures", "landmark-0/picture-0-0"],
            "rebuild": made,
            "gc": ["--keep", "1", "--idle-hours", "0"],
        },
    )
    scene.finish("build", root / "store")
    store = Store(root / "store")
    add(store, EmbedderChoice(embedder, threads=1), open_data(more))
    remove(store, landmarks=["landmark-2"])
    new = photographs(root / "new", landmarks=10, views=30)
    for known in range(8):
        shutil.rmtree(new / f"landmark-{known}")
    for view in range(20):
        (data / f"landmark-3/picture-3-{view}.jpg").write_bytes(view_bytes(3, 200 + view))
    return scene


def published(store: Path) -> dict[str, object]:
    """Prove the published build and return what it says, but for its name and time."""
    verify(Store(store))
    manifest: GalleryManifest = read_manifest(Store(store).directory())
    return manifest.model_dump(exclude={"build_id", "created"})


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("command", "kills"), KILLS)
def test_a_killed_command_ends_where_an_undisturbed_one_does(
    scene: Scene, tmp_path: Path, command: str, kills: int
) -> None:
    """Each time the old gallery or the new one is whole, and the command run again completes."""
    chance = random.Random(f"{command} {kills}")  # noqa: S311 (moments, not secrets)
    undisturbed = scene.copy(tmp_path / "undisturbed")
    before, begun = published(undisturbed), time.monotonic()
    scene.finish(command, undisturbed)
    seconds = time.monotonic() - begun
    after = published(undisturbed)
    killed = number = 0
    while killed < kills:
        number += 1
        assert number <= 5 * kills + 15, "most kills came too late"
        store = scene.copy(tmp_path / f"killed-{number}")
        with scene.start(command, store) as process:
            time.sleep(seconds * chance.uniform(0.3, 0.95))
            process.kill()
            process.communicate()
        killed += process.returncode == -signal.SIGKILL
        assert published(store) in (before, after)
        scene.finish(command, store)
        assert published(store) == after
        assert not [path.name for path in (store / "builds").iterdir() if path.name[0] == "."]
        if command == "gc":
            assert len(list_builds(Store(store))) == len(list_builds(Store(undisturbed)))
        shutil.rmtree(store)
