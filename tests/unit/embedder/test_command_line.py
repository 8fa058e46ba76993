"""What a command does whose output nobody reads, or takes: in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedder.command_line import UNREAD
from tests.conftest import ROOT

IMPORT = "from embedder.command_line import print_line as say\n"
SAY = f"import sys\n{IMPORT}sys.exit(say('first') or say('second'))"


DRAW = ("draw", "--landmarks", "2", "--pictures", "2", "--queries", "1", "--scenes", "1")


def unread(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a pipe for stdout that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)


def test_a_line_is_there_at_once() -> None:
    """It does not wait for the end of the process."""
    program = f"import os\n{IMPORT}say('first'); os._exit(0)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "first\n"


def test_a_reader_that_left_is_told_by_the_exit_code() -> None:
    """And by nothing else: no traceback, not even when the process ends."""
    ended = unread("-c", SAY)
    assert (ended.returncode, ended.stderr) == (UNREAD, "")


def test_more_is_lost_in_silence() -> None:
    """A command may go on, and need not look at what it was told."""
    ended = unread("-c", f"{IMPORT}say('first'); say('second')")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_full_disk_is_an_error() -> None:
    """The caller says which; the end of the process says nothing more."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    program = f"{IMPORT}try: say('first')\nexcept OSError: print('told')"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("room", "words"),
    [
        ("index", ("list", "--store", "{folder}")),
        ("trainer", (*DRAW, "--out", "{folder}/drawn")),
        ("service", ("key", "somebody")),
    ],
)
def test_a_command_ends_like_other_tools(tmp_path: Path, room: str, words: tuple[str, ...]) -> None:
    """Its log, if it has any, says nothing of it."""
    ended = unread("-m", room, *(word.format(folder=tmp_path) for word in words))
    assert ended.returncode == UNREAD, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "roken" not in ended.stderr
