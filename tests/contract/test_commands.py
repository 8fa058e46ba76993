"""What every command takes and how it ends: the flags that scripts rely on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import pytest
from cyclopts import App

from embedder.command_line import command_app, help_text, run
from embedder.errors import DeviceError
from embedder.version import VERSION
from index.cli import app as index_app
from service.cli import app as service_app
from tests.conftest import ROOT
from trainer.cli import app as trainer_app

APPS = {"cairn-train": trainer_app, "cairn-index": index_app, "cairn-serve": service_app}
RUNNING = "device precision threads"
EMBEDDING = f"embedder batch-size max-pixels max-bytes {RUNNING}"
ASKING = f"data layout embedder batch-size {RUNNING}"
MAKING = "list max-unreadable kind min-recall no-publish"
FLAGS = {
    "cairn-train train": "recipe data out weights init-from set resume layout",
    "cairn-train export": "out ensemble backbone weights side fit pooling mirrored name",
    "cairn-train whiten": "data list out dimension shrink pictures layout",
    "cairn-train adapt": "data list out pictures layout",
    "cairn-train denoise": "data out angle truth layout",
    "cairn-train draw": "out landmarks pictures queries scenes side gldv2 scale seed",
    "cairn-train download": "out split pictures tars attribution keep-tars packed connections "
    "attempts source",
    "cairn-train prepare": "data out list no-queries only-present at-least landmarks pictures "
    "total folds counts seed side shortest quality workers max-unreadable layout",
    "cairn-index build": f"store data layout {EMBEDDING} {MAKING} thumbnails ranking "
    "vote-neighbors vote-power rerank distractors gallery-penalty query-penalty "
    "gallery-distractors query-distractors",
    "cairn-index rebuild": f"store data {EMBEDDING} {MAKING} thumbnails hash",
    "cairn-index add": f"store data layout {EMBEDDING} {MAKING} prefix",
    "cairn-index remove": "store pictures landmarks list",
    "cairn-index compact": "store",
    "cairn-index sources list": "store",
    "cairn-index sources drop": "store data list",
    "cairn-index sources relocate": "store data to list",
    "cairn-index list": "store",
    "cairn-index verify": f"store embedder {RUNNING} sample build",
    "cairn-index rollback": "store build",
    "cairn-index gc": "store keep idle-hours",
    "cairn-index predict": f"store {EMBEDDING} pictures out build",
    "cairn-index evaluate": f"store data layout {EMBEDDING} report build",
    "cairn-index calibrate": f"store data layout {EMBEDDING} precision-target build",
    "cairn-index retrieve": f"store {EMBEDDING} pictures out k rerank solution build",
    "cairn-index search": f"store {EMBEDDING} k build",
    "cairn-index diff": f"store {ASKING} out report",
    "cairn-index check": "data store list layout build out report",
    "cairn-index export-vectors": "store out build",
    "cairn-index publish": f"store if-gap-at-least unless-worse-than {ASKING}",
    "cairn-serve predict": "url key-file at-once",
    "cairn-serve key": "",
}
DEFAULTS = [
    (
        "cairn-train draw",
        "photographs.sample:write_sample_set",
        "landmarks pictures queries scenes",
    ),
    ("cairn-train draw", "photographs.sample:write_sample_set", "side seed"),
    ("cairn-train denoise", "trainer.evaluation.denoise:denoise", "angle=max_angle_degrees"),
    ("cairn-train download", "photographs.download.download:DownloadPlan", "pictures connections"),
    ("cairn-train download", "photographs.download.transfer:RetryPolicy", "attempts"),
    ("cairn-train prepare", "photographs.prepare.prepare:Selection", "at-least"),
    ("cairn-train prepare", "photographs.prepare.prepare:Preparation", "seed max-unreadable"),
    ("cairn-train prepare", "photographs.prepare.copies:CopyRecipe", "quality"),
]


def page_of(command: str) -> str:
    """Return the help page of a command."""
    name, *words = command.split()
    return help_text(APPS[name], words)


def commands_of(name: str) -> set[str]:
    """Return the subcommands of a command, and theirs."""
    app, found = APPS[name], set[str]()
    for command in [command for command in app if not command.startswith("-")]:
        below = [f"{command} {one}" for one in app[command] if not one.startswith("-")]
        found |= {f"{name} {words}" for words in below or [command]}
    return found


def test_every_command_is_listed() -> None:
    """The table has the commands that are there."""
    assert set(FLAGS) == {command for name in APPS for command in commands_of(name)}
    assert len(FLAGS) == 31


@pytest.mark.parametrize("command", FLAGS)
def test_a_command_keeps_its_flags(command: str) -> None:
    """No flag is lost, none appears unnoticed, and none has a negative form of its own making."""
    flags = re.findall(r"^  --([a-z0-9-]+)", page_of(command), re.MULTILINE)
    assert sorted(flags) == sorted(FLAGS[command].split())


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_is_explained(command: str) -> None:
    """Each row of the help page has words."""
    rows = re.split(r"^  (?=\S)", page_of(command), flags=re.MULTILINE)[1:]
    assert len(rows) > len(FLAGS[command].split())
    for row in rows:
        assert len(row.split()) > 3, row


@pytest.mark.parametrize(("command", "target", "flags"), DEFAULTS)
def test_a_flag_has_the_default_of_its_function(command: str, target: str, flags: str) -> None:
    """Calling the function says the same as calling the command."""
    import inspect

    module, _, name = target.partition(":")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    page = " ".join(page_of(command).split())
    for flag in flags.split():
        flag, _, parameter = flag.partition("=")  # noqa: PLW2901 (its two halves)
        default = parameters[(parameter or flag).replace("-", "_")].default
        explained = page.partition(f" --{flag} ")[2]
        assert explained.partition("(default: ")[2].startswith(f"{default})")


@pytest.mark.parametrize("room", ["trainer", "index", "service"])
def test_help_of_every_command_draws_nothing(room: str) -> None:
    """Neither rich nor a heavy library is imported for any help page."""
    program = (
        "import sys\nfrom embedder.command_line import help_text\n"
        f"from {room}.cli import app\n"
        "pages = [help_text(app, [name]) for name in app if name[0] != '-']\n"
        "heavy = {'rich', 'numpy', 'PIL', 'pydantic', 'torch', 'httpx', 'yaml', 'pyarrow'}\n"
        "print(len(pages), sorted(heavy & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    count = {"trainer": 8, "index": 19, "service": 2}[room]
    assert ended.stdout == f"{count} []\n"


def test_scripts_are_these_commands() -> None:
    """What is installed is what is tested here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["project"]["scripts"]) == set(APPS)


@pytest.mark.parametrize("name", APPS)
def test_a_command_says_its_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The one of the distribution, which is read from the same place."""
    assert run(APPS[name], ["--version"]) == 0
    assert capsys.readouterr().out == f"{VERSION}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "embedder.version.VERSION"


@pytest.fixture
def tool() -> App:
    """Give a command that fails as it is told to."""
    app = command_app("tool", "Fail.")

    @app.command
    def go(*, error: str = "") -> dict[str, int] | None:
        """Go."""
        if error == "interrupt":
            raise KeyboardInterrupt
        if error == "device":
            raise DeviceError("no such device")
        if error == "disk":
            raise OSError("the disk is full")
        return {"answer": 42} if error == "" else None

    return app


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ("interrupt", 130, "tool: interrupted; go on\n"),
        ("device", DeviceError.exit_code, "tool: no such device\n"),
        ("disk", 1, "tool: the disk is full\n"),
        ("none", 0, ""),
    ],
)
def test_an_error_becomes_its_exit_code(
    tool: App, error: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a sentence on stderr, and nothing on stdout."""
    function: Callable[..., object] = tool["go"].default_command  # type: ignore[assignment] # set by cyclopts
    assert run(tool, ["go", "--error", error], resume_hints={function: "; go on"}) == code
    assert capsys.readouterr() == ("", words)


def test_a_result_is_one_line_of_json(tool: App, capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout; threads that compute will wait passively, unless told otherwise."""
    assert run(tool, ["go"]) == 0
    assert json.loads(capsys.readouterr().out) == {"answer": 42}
    assert os.environ["OMP_WAIT_POLICY"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["go", "--eror", "x"], "Did you mean --error?"),
        (["go", "--no-error"], "Unknown option"),
        (["run"], 'Unknown command "run"'),
        (["go", "--error"], "--error requires an argument"),
    ],
)
def test_bad_usage_is_refused_in_words(
    tool: App, arguments: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2; the way to the help page is shown."""
    with pytest.raises(SystemExit, match="2"):
        run(tool, arguments)
    told = capsys.readouterr()
    assert words in told.err
    assert "--help`." in told.err
    assert told.out == ""


def test_without_a_command_the_help_is_shown_and_that_is_an_error(
    tool: App, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, since nobody asked for it."""
    with pytest.raises(SystemExit, match="2"):
        run(tool, [])
    told = capsys.readouterr()
    assert told.out == ""
    assert "usage: tool COMMAND" in told.err


def test_all_faults_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, with the flag, what it may be, and what it was."""
    arguments = ["download", "--split", "trein", "--connections", "0", "--tars", "x"]
    with pytest.raises(SystemExit, match="2"):
        run(trainer_app, arguments)
    assert capsys.readouterr().err.splitlines() == [
        "cairn-train download: --out: is required",
        "cairn-train download: --split: must be one of train, index, test, not 'trein'",
        "cairn-train download: --tars: must be numbers such as 0-9,42, not 'x'",
        "cairn-train download: --connections: must be >= 1, not 0",
        "See `cairn-train download --help`.",
    ]


def test_completion_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script knows the commands, and is loaded by new shells."""
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / "script"
    arguments = ["--install-completion", "--shell", "bash", "--output", str(script)]
    assert run(index_app, arguments) == 0
    assert str(script) in capsys.readouterr().out
    assert "rebuild" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
