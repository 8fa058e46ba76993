"""The command line: one result on stdout, the rest on stderr, and exit codes."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from embedder.command_line import help_text
from embedder.errors import ArtifactMismatchError, ArtifactMissingError, GalleryError
from embedder.manifest import read_manifest, write_manifest
from index.building.pipeline import PipelineOptions
from index.cli import app, main
from index.evaluation.calibrate import CalibrationRecipe
from index.evaluation.retrieve import RetrievalRecipe
from index.evaluation.search import search
from index.gallery.manifest import read_manifest as read_gallery
from index.gallery.store import Store
from index.maintenance.history import clean
from index.maintenance.verify import verify
from index.ranking.ranking import Ranking
from tests.conftest import ROOT
from tests.factories import photographs


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "index", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_build_predict_and_evaluate_run_as_scripted(
    embedder_directory: Path, gldv2: Path, tmp_path: Path
) -> None:
    """Each prints one line of JSON and nothing else on stdout, and ends with 0."""
    both = ("--store", tmp_path / "s", "--embedder", embedder_directory)
    out = tmp_path / "o.csv"
    built = run("build", *both, "--data", gldv2, "--max-unreadable", 0, "--threads", 1)
    predicted = run("predict", *both, "--pictures", gldv2 / "test", "--out", out)
    judged = run("evaluate", *both, "--data", gldv2, "--device", "cpu", "--batch-size", 2)
    results = []
    for ended in (built, predicted, judged):
        assert ended.returncode == 0, ended.stderr
        (line,) = ended.stdout.splitlines()
        results.append(json.loads(line))
        assert "WARNING" not in ended.stderr
        assert "faiss" not in ended.stderr
    assert (results[0]["rows"], results[0]["landmarks"]) == (12, 3)
    assert Path(results[0]["gallery"], "manifest.json").is_file()
    assert results[1]["queries"] == len(out.read_text().splitlines()) - 1 == 4
    assert results[2]["top1"] == 1.0
    assert {result["build_id"] for result in results} == {results[0]["build_id"]}
    assert [result["embedded"] for result in results] == [12, 4, 0]
    assert results[0]["known"] == 0


def test_errors_are_a_sentence_and_an_exit_code(
    embedder_directory: Path, gldv2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing published, no such folder, no such embedder: each ends with its own code."""
    store, out = tmp_path / "s", tmp_path / "o.csv"
    cases = {
        6: ("predict", store, embedder_directory, "--pictures", gldv2 / "test", "--out", out),
        5: ("build", store, embedder_directory, "--data", tmp_path / "absent"),
        3: ("build", store, tmp_path / "absent", "--data", gldv2),
    }
    for code, (command, where, embedder, *rest) in cases.items():
        asked = [command, "--store", where, "--embedder", embedder, *rest]
        assert main([str(word) for word in asked]) == code
        written = capsys.readouterr()
        assert written.out == ""
        assert written.err.splitlines()[-1].startswith("cairn-index: ")
        assert "Traceback" not in written.err


def test_trouble_of_the_system_is_a_sentence(
    embedder_directory: Path, gldv2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store or an answer where a file is in the way: no traceback says so."""
    (tmp_path / "file").write_text("a file")
    store = ("--store", tmp_path / "file", "--embedder", embedder_directory)
    assert main([str(word) for word in ("build", *store, "--data", gldv2)]) == 6
    assert f"{tmp_path / 'file'}" in (said := capsys.readouterr().err)
    assert "what was published is unchanged" in said
    store = ("--store", tmp_path / "s", "--embedder", embedder_directory)
    assert main([str(word) for word in ("build", *store, "--data", gldv2)]) == 0
    out = ("--pictures", gldv2 / "test", "--out", tmp_path / "file" / "o.csv")
    capsys.readouterr()
    assert main([str(word) for word in ("predict", *store, *out)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("cairn-index: ")


def test_thumbnails_are_kept_until_others_are_asked_for(
    embedder_directory: Path, gldv2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a build, by a rebuild that says nothing of them, and by one that does."""
    both = ("--store", tmp_path / "s", "--embedder", embedder_directory)
    steps = [
        ("build", "--data", gldv2, "--thumbnails", 16),
        ("rebuild",),
        ("rebuild", "--thumbnails", 0),
        ("rebuild", "--thumbnails", 20),
    ]
    sides = []
    for command, *rest in steps:
        assert main([str(word) for word in (command, *both, *rest)]) == 0
        sides.append(json.loads(capsys.readouterr().out)["thumbnail_side"])
    assert sides == [16, 16, 0, 20]


def test_a_gallery_ranks_as_its_embedder_advises_unless_told_otherwise(
    embedder_directory: Path, gldv2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command names counts, then what the embedder's manifest does."""
    advising = shutil.copytree(embedder_directory, tmp_path / "embedder")
    manifest, _ = read_manifest(advising)

    def rank_by(advice: dict[str, JsonValue], *words: str) -> Ranking:
        write_manifest(advising, manifest.model_copy(update={"ranking": advice}))
        store = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        made = ("--embedder", str(advising), "--data", str(gldv2), "--store", str(store))
        assert main(["build", *made, *words]) == 0
        return read_gallery(Store(store).directory()).ranking

    vote: dict[str, JsonValue] = {"rule": "vote", "neighbors": 3}
    assert rank_by({}) == Ranking()
    assert rank_by(vote) == Ranking(rule="vote", neighbors=3)
    assert rank_by(vote, "--vote-power", "2") == Ranking(rule="vote", neighbors=3, power=2)
    assert rank_by(vote, "--ranking", "top1").rule == "top1"
    capsys.readouterr()
    write_manifest(advising, manifest.model_copy(update={"ranking": {"rule": "guess"}}))
    made = ("--embedder", str(advising), "--data", str(gldv2), "--store", str(tmp_path / "x"))
    assert main(["build", *made]) == ArtifactMismatchError.exit_code
    told = capsys.readouterr().err
    assert "ranking advised by the embedder tiny: expected" in told
    assert 'found {"rule": "guess"}' in told


@pytest.mark.parametrize("penalty", ["query_penalty", "gallery_penalty"])
def test_an_embedder_that_advises_penalties_is_refused(
    penalty: str,
    embedder_directory: Path,
    gldv2: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They need pictures of no landmark, which no embedder has: a sentence, not a traceback."""
    advising = shutil.copytree(embedder_directory, tmp_path / "embedder")
    manifest, _ = read_manifest(advising)
    write_manifest(advising, manifest.model_copy(update={"ranking": {penalty: 1.0}}))
    store = ("--store", str(tmp_path / "s"))
    made = ["build", *store, "--embedder", str(embedder_directory), "--data", str(gldv2)]
    assert main(made) == 0
    asked = ["rebuild", *store, "--embedder", str(advising)]
    assert main(asked) == ArtifactMismatchError.exit_code
    told = capsys.readouterr().err
    assert f'found {{"{penalty}": 1.0}}' in told


def test_a_folder_named_like_the_gallerys_own_centers_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of the two is meant has to be said."""
    photographs(tmp_path / "gallery", landmarks=2, views=1)
    monkeypatch.chdir(tmp_path)
    made = ["build", "--store", "s", "--embedder", "none", "--data", "gallery"]
    assert main([*made, "--distractors", "gallery"]) == GalleryError.exit_code
    assert "./gallery" in capsys.readouterr().err
    assert main([*made, "--distractors", "./gallery"]) == ArtifactMissingError.exit_code


@pytest.mark.parametrize(
    "words",
    [
        ("--max-unreadable", "1.5"),
        ("--threads", "-1"),
        ("--batch-size", "0"),
        ("--thumbnails", "513"),
        ("--list",),
    ],
)
def test_impossible_numbers_are_refused(words: tuple[str, ...]) -> None:
    """Before anything is loaded."""
    asked = ["build", "--store", "s", "--embedder", "e", "--data", "d", *words]
    with pytest.raises(SystemExit, match="2"):
        main(asked)


def test_help_loads_nothing_heavy() -> None:
    """Neither numpy nor an engine is imported before the arguments are parsed."""
    script = (
        "import sys; from index.cli import main\n"
        "try: main(['build', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'faiss', 'openvino', 'pyarrow', 'PIL', 'pydantic', 'torch'}\n"
        "print('loaded', sorted(heavy & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "--max-unreadable" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize(
    ("command", "function", "flags"),
    [
        ("predict", PipelineOptions, {"batch_size": "batch_pictures", "threads": "readers"}),
        ("calibrate", CalibrationRecipe, {"precision_target": "precision_target"}),
        ("retrieve", RetrievalRecipe, {"k": "k"}),
        ("search", search, {"k": "k"}),
        ("verify", verify, {"sample": "sample"}),
        ("gc", clean, {"keep": "keep", "idle_hours": "idle_hours"}),
    ],
)
def test_a_flag_has_the_default_of_its_function(
    command: str, function: Callable[..., object], flags: dict[str, str]
) -> None:
    """Calling the function says the same as calling the command."""
    page = " ".join(help_text(app, [command]).split())
    for flag, parameter in flags.items():
        default = inspect.signature(function).parameters[parameter].default
        explained = page.partition(f" --{flag.replace('_', '-')} ")[2]
        assert explained.partition("(default: ")[2].startswith(f"{default})")


def test_a_gallery_lives_by_commands(
    embedder_directory: Path, gldv2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Built, grown, shrunk, rebuilt, listed, proved, gone back in and cleaned: one line each."""
    more = photographs(tmp_path / "more", landmarks=1, views=2)
    store, embedder = ("--store", tmp_path / "s"), ("--embedder", embedder_directory)

    def ask(name: str, *words: object) -> dict[str, Any]:
        assert main([str(word) for word in (name, *store, *words)]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        answer: dict[str, Any] = json.loads(line)
        return answer

    ask("build", *embedder, "--data", gldv2)
    assert ask("add", *embedder, "--data", more)["rows"] == 14
    removed = ask("remove", "--landmarks", 9, "--pictures", "100abc", "landmark-0/picture-0-0")
    assert (removed["rows"], removed["removed"]) == (14, 6)
    rebuilt = ask("rebuild", *embedder, "--hash")
    assert (rebuilt["rows"], rebuilt["removed"]) == (8, 0)
    listed = ask("list")
    assert [build["rows"] for build in listed["builds"]] == [12, 14, 14, 8]
    assert listed["current"] == rebuilt["build_id"]
    assert ask("verify", *embedder, "--sample", 3)["sample"] == 3
    assert ask("rollback")["build_id"] == removed["build_id"]
    assert len(ask("gc", "--keep", 1)["kept"]) == 2
    moved = ask("rebuild", *embedder, "--data", gldv2, "--data", more)
    assert moved["rows"] == 8
    assert main(["rebuild", *map(str, (*store, *embedder)), "--data", str(more)]) == 5
