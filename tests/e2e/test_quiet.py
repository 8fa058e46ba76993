"""Nothing phones home: no command reaches another machine that it was not told to ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App

from index.cli import app as index_app
from service.cli import app as service_app
from tests.api.conftest import Artifacts, serving
from tests.conftest import ROOT
from tests.official_server import landmarks_server, running
from tests.recipes import tiny_recipe
from trainer.cli import app as trainer_app

APPS: dict[str, App] = {"trainer": trainer_app, "index": index_app, "service": service_app}
IN_CI = {"CI", "TF_BUILD", "JENKINS_URL"}
"""Variables by which libraries know that nobody is at home, and then send nothing."""

CHAIN = """
trainer draw --out data --landmarks 4 --pictures 6 --queries 8 --scenes 2 --side 64
trainer draw --out more --landmarks 2 --pictures 3 --queries 1 --scenes 0 --side 64 --seed 1
trainer train --recipe recipe.yaml --data data --out run
trainer export run --out embedder
trainer whiten embedder --data data --out whitened --dimension 8
trainer adapt embedder --data data --out adapted
trainer denoise run --data data --out denoised
trainer prepare --data data --out smaller --side 48
trainer download --out downloaded --split train --tars 0 --source SOURCE
index build --store store --data data --embedder embedder --thumbnails 32
index add --store store --data more --embedder embedder
index remove --store store --landmarks 4211
index rebuild --store store --embedder embedder
index compact --store store
index sources list --store store
index list --store store
index check --store store --report checked.html
index export-vectors --store store --out vectors.parquet
index verify --store store --embedder embedder
index evaluate --store store --embedder embedder --data data --report report.html
index calibrate --store store --embedder embedder --data data
index predict --store store --embedder embedder --pictures data/test --out submission.csv
index retrieve --store store --embedder embedder --pictures data/test --out retrieved.csv
index search PICTURE --store store --embedder embedder
index diff FIRST LAST --store store --embedder embedder --data data --report diff.html
index rollback --store store
index publish LAST --store store --if-gap-at-least 0 --data data --embedder embedder
index gc --store store
service key a-client
service predict PICTURE --url SERVICE
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a person's home on a machine that is new: nothing was ever refused there."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in (*IN_CI, "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    return folder


def run(words: list[str], folder: Path) -> str:
    """Run a Python program in a folder to its end; return what it says."""
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    hardly_trained = ("cannot be calibrated", "lower it or train longer", "no adapter improves")
    refused = any(reason in ended.stderr for reason in hardly_trained)
    assert ended.returncode == 0 or refused, f"{words}: {ended.stderr}"
    return ended.stdout


def named(line: str, folder: Path, **names: str) -> list[str]:
    """Split a command of the chain; put a picture and builds of the folder in for their names."""
    for name, found in (
        ("PICTURE", (folder / "data/test").rglob("*.jpg")),
        ("FIRST", sorted((folder / "store/builds").glob("2*"))),
        ("LAST", sorted((folder / "store/builds").glob("2*"), reverse=True)),
    ):
        if name in line:
            names[name] = str(next(iter(found)).relative_to(folder)).removeprefix("store/builds/")
    return [names.get(word, word) for word in line.split()]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80))",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import socket; socket.gethostbyname('192.0.2.1')",
        "import multiprocessing as m, urllib.request as r; p = m.get_context('spawn').Process("
        "target=r.urlopen, args=('http://192.0.2.1',)); p.start(); p.join(); exit(p.exitcode)",
    ],
)
def test_an_attempt_is_seen_and_refused(program: str, outgoing: Path, tmp_path: Path) -> None:
    """Whoever makes it, in whichever process."""
    with pytest.raises(AssertionError, match="outgoing connections are refused"):
        run(["-c", f"if __name__ == '__main__': {program}"], tmp_path)
    assert "192.0.2.1" in outgoing.read_text()
    outgoing.write_text("")


@pytest.mark.usefixtures("home")
def test_openvino_alone_would_report(outgoing: Path, tmp_path: Path) -> None:
    """What is kept from happening in all other tests happens without us."""
    run(["-c", "import openvino"], tmp_path)
    assert "analytics" in outgoing.read_text()
    outgoing.write_text("")


def test_the_runtime_reports_nothing(home: Path, outgoing: Path, tmp_path: Path) -> None:
    """A program of one's own that loads an embedder sends nothing, and leaves no id at home."""
    run(["-c", "import embedder.runtimes.openvino, openvino.tools.ovc"], tmp_path)
    assert outgoing.read_text() == ""
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_every_command_reaches_only_what_it_is_told_to(
    home: Path, outgoing: Path, tmp_path: Path
) -> None:
    """From drawing pictures to asking a service; no library leaves an id at home."""
    tiny_recipe(tmp_path / "recipe.yaml")
    content, _ = landmarks_server(tars=1)
    lines = CHAIN.strip().splitlines()
    with running(content) as server:
        for line in lines[:-1]:
            run(["-m", *named(line, tmp_path, SOURCE=server.url)], tmp_path)
            assert outgoing.read_text() == "", line
    parts = Artifacts(tmp_path / "data", tmp_path / "embedder", tmp_path / "store")
    with serving(parts, tmp_path / "log") as service:
        asked = named(lines[-1], tmp_path, SERVICE=service.url)
        assert "landmark_id" in run(["-m", *asked], tmp_path)
    assert outgoing.read_text() == ""
    assert not (home / "intel").exists()
    commands = {f"{name} {word}" for name, app in APPS.items() for word in app if word[0] != "-"}
    assert {" ".join(line.split()[:2]) for line in lines} == commands
