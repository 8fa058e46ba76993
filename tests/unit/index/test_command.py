"""The command line: one result on stdout, the rest on stderr, and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import index.__main__
from index.__main__ import main
from index.stream import BATCH_PICTURES
from tests.conftest import ROOT


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


@pytest.mark.parametrize(
    "words", [("--max-unreadable", "1.5"), ("--threads", "-1"), ("--batch-size", "0"), ("--list",)]
)
def test_impossible_numbers_are_refused(words: tuple[str, ...]) -> None:
    """Before anything is loaded."""
    asked = ["build", "--store", "s", "--embedder", "e", "--data", "d", *words]
    with pytest.raises(SystemExit, match="2"):
        main(asked)


def test_help_loads_nothing_heavy() -> None:
    """Neither numpy nor an engine is imported before the arguments are parsed."""
    script = (
        "import sys; from index.__main__ import main\n"
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


def test_the_default_batch_is_that_of_the_stream() -> None:
    """The command repeats the number because asking for it would load the engine."""
    assert index.__main__._BATCH_PICTURES == BATCH_PICTURES
